package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// This is row 20 of package threat: names that are none, in each place where a
// client or an operator says one.

var wrongNames = []string{
	"", " ", "\t", "\n", "\x00", "_", "_me", ".", "..", ".me", "-", "-me", "--", "__proto__",
	"/", "//", "a/b", "/a", "a/", "a//b", "../a", "a/../b", "a/..", `a\b`, `\a`, `..\a`, "//a", "a/./b", "./a", "a/+", "a/#",
	"+", "#", "*", ">", "a+", "+a", "a#", "#a", "*a", "a>", "+/+", "$", "$SYS", "$share", "$me", "a$", "$queue/a",
	"a\x00", "\x00a", "a\x00b", "a%00", "%00", "%", "a%2fb", "a%2Fb", "%2e%2e", "a%20b", "%41", "%%", "a%s", "a%n", "a%!d",
	"a b", " a", "a ", "a\t", "a\n", "a\r\n", "\na", "a\nb", "a\v", "a\f", "a\x7f", "a\x1b[31m", "a\b", "a\r\nlevel=ERROR msg=forged",
	"a:b", "a@b", "a,b", "a;b", "a=b", "a&b", "a|b", "a!", "a?", "a'", `a"`, `a","peer":"b`, "a`", "a(b)", "a[0]", "a{b}", "<a>", "~", "a^", "a?x=1",
	"{{a}}", "${a}", "$(a)", "';--", "<script>", "{me}",
	"é", "aé", "ß", "кам1", "сam1" /* Cyrillic es */, "cаm1" /* Cyrillic a */, "ｃａｍ", "cam１", "cam¹", "cam٣", "𝒸am",
	"\u212a" /* Kelvin sign */, "caſe", "İ", "ı", "ﬁ", "a\u0301", "a\u200b", "\u200ba", "a\u200d", "a\ufeff", "\ufeffa", "a\u00ad", "a\u00a0", "a\u3000",
	"a\u2028", "a\u0085", "a\u202eb", "\u200fa", "a\ufe0f", "a\U000e0041", "a\uff0eb", "a\uff0fb", "a\u2215b", "a\uff0b", "a\uff03", "a\u2010b", "😀",
	"a\x80", "a\xff", "\xff", "a\xc0\xaf", "a\xc0\x80", "a\xe2\x82", "a\xed\xa0\x80", "a\xf4\x90\x80\x80",
	strings.Repeat("a", 65), strings.Repeat("a", 256), strings.Repeat("é", 32), strings.Repeat("a", 60000), "a" + strings.Repeat(".", 64),
}

func TestThereAreEnoughWrongNames(t *testing.T) {
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	for _, n := range wrongNames {
		if name.MatchString(n) {
			t.Errorf("%q is a name", n)
		}
	}
	if len(wrongNames) < 120 {
		t.Errorf("%d are fewer than 120", len(wrongNames))
	}
}

// inWords demands that a refusal says something.
func inWords(t *testing.T, place, name, said string) {
	t.Helper()
	if !spoken.MatchString(said) {
		t.Errorf("%.60q as %s is refused without a word: %.200q", name, place, said)
	}
}

var spoken = regexp.MustCompile(`\w+ \w+ [ -~]{5,}`)

func TestWrongNamesAreRefusedInEveryPlaceOfEveryDoor(t *testing.T) {
	t.Parallel()
	threat.Row(t, 20, threat.TCP|threat.JSON|threat.HTTP)
	s := startSite(t, "--log-level=info") // else it says too much when the test fails
	c := startCanaries(t, s)
	observer := s.wire(t, "tcp", 5)
	observer.connect("o", auth.Observer, "")
	if a := observer.ask(observer.subscription("rtc/v1/#")); a[0].code != 0 {
		t.Fatal(a)
	}
	tries := 0
	for _, version := range []byte{4, 5} {
		tries += wrongTopics(t, s, version) + wrongClients(t, s, version)
		c.sing()
	}
	tries += wrongJoins(t, s) + wrongRequests(t, s)
	c.sing()
	c.mqtt.quiet()
	c.json.quiet()
	observer.ask("")
	known := regexp.MustCompile(`^rtc/v1/(garage/(peers/(canary|bird)|to/(canary|bird)/(canary|bird))|attic/(peers/mallory[45]|to/mallory[45]/_))$`)
	for _, h := range observer.take() {
		if !known.MatchString(h.topic) {
			t.Errorf("the observer sees %.100q: %.200q", h.topic, h.payload)
		}
	}
	t.Logf("%d names, %d tries", len(wrongNames), tries)
}

// wrongTopics tries names as room and peer of a publish and of a filter.
func wrongTopics(t *testing.T, s *site, version byte) (tries int) {
	me := fmt.Sprint("mallory", version)
	var w *wire
	for _, p := range []struct {
		place, topic string
		subscribe    bool
		may          string // be more than a name there
	}{
		{"room of a publish", "rtc/v1/%s/all/" + me, false, ""},
		{"receiver of a publish", "rtc/v1/attic/to/%s/" + me, false, "_"},
		{"sender of a publish", "rtc/v1/attic/all/%s", false, ""},
		{"peer of a presence", "rtc/v1/attic/peers/%s", false, ""},
		{"room of a filter", "rtc/v1/%s/all/+", true, "+"}, // --dev grants every room
		{"peer of a filter", "rtc/v1/attic/to/%s/+", true, ""},
		{"peer of a filter of presence", "rtc/v1/attic/peers/%s", true, "+_"}, // "_" is a peer, of no presence,
	} {
		for _, name := range wrongNames {
			if name != "" && strings.Contains(p.may, name) {
				continue
			}
			if w == nil {
				w = s.wire(t, "tcp", version)
				w.connect("x", me, "")
				w.mustSubscribe("attic", "to/"+me+"/+") // where the canaries are not
			}
			tries++
			w.take()
			topic := strings.Replace(p.topic, "%s", name, 1)
			out := w.publication(topic, `{"type":"msg","data":"wrong"}`, false)
			if strings.Contains(p.place, "presence") {
				out = w.publication(topic, `{"online":true}`, true)
			}
			if p.subscribe {
				out = w.subscription(topic)
			}
			answers := w.ask(out)
			last := answers[len(answers)-1]
			told := fmt.Sprint(w.take())
			switch ended := last.kind == 0xe0; {
			case version == 5:
				if last.code < 0x80 {
					t.Errorf("%.60q as %s: %v %s", name, p.place, answers, told)
				}
				inWords(t, p.place, name, last.body)
			case p.subscribe && !ended && last.code != 0x80:
				t.Errorf("%.60q as %s: %v", name, p.place, answers)
			case !p.subscribe && !ended && !strings.Contains(p.place, "room"): // where its inbox is
				inWords(t, p.place, name, told)
			}
			if last.kind == 0xe0 {
				w = nil
			}
		}
	}
	if w != nil {
		w.leave()
	}
	return tries
}

// wrongClients tries names as client id and user name.
func wrongClients(t *testing.T, s *site, version byte) (tries int) {
	for _, name := range wrongNames {
		if name == "" { // none is given, and one is made up
			continue
		}
		for _, place := range []string{"client id", "user name"} {
			tries++
			w := s.wire(t, "tcp", version)
			id, user := name, ""
			if place == "user name" {
				id, user = "x", name
			}
			_, _ = io.WriteString(w.conn, w.connection(id, user, ""))
			kind, body, err := w.read()
			// Of a malformed CONNECT it hears nothing (MQTT 3.1.1, 4.8), of one that
			// is too long not always, since it is closed while that comes.
			if err != nil && (version == 4 || len(name) > 1000) {
				continue
			}
			if err != nil || kind>>4 == 2 && body[1] == 0 {
				t.Errorf("%.60q as %s in version %d: % x %q %v", name, place, version, kind, body, err)
				continue
			}
			if version == 5 {
				inWords(t, place, name, body)
			}
			if !w.ended() {
				t.Errorf("%.60q as %s in version %d: the connection stays", name, place, version)
			}
			w.conn.Close()
		}
	}
	return tries
}

// jsonName is name as a text of JSON, as far as it can be one.
func jsonName(name string) string {
	if !utf8.ValidString(name) {
		return `"` + name + `"`
	}
	text, _ := json.Marshal(name)
	return string(text)
}

// says sends a frame to a new connection, and returns the code of the error and
// what it says.
func says(t *testing.T, url string, header http.Header, frame string) (code int, words string) {
	t.Helper()
	ws, answer, err := websocket.DefaultDialer.Dial(url, header)
	if err != nil {
		if answer == nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(body)
	}
	defer ws.Close()
	_ = ws.SetReadDeadline(time.Now().Add(atMost))
	_ = ws.WriteMessage(websocket.TextMessage, []byte(frame))
	var e struct {
		Code    int
		Message string
	}
	if err := ws.ReadJSON(&e); err != nil {
		t.Fatalf("%.100q: %v", frame, err)
	}
	return e.Code, e.Message
}

// wrongJoins tries names as room and peer of a join, and as the user of Basic.
func wrongJoins(t *testing.T, s *site) (tries int) {
	for _, name := range wrongNames {
		frames := map[string]string{
			"room of a join": `{"type":"join","room":` + jsonName(name) + `,"peer":"mallory"}`,
			"peer of a join": `{"type":"join","room":"garage","peer":` + jsonName(name) + `}`,
		}
		basic := http.Header{}
		if user, _, _ := strings.Cut(name, ":"); user == name && name != "" && len(name) < 1000 {
			(&http.Request{Header: basic}).SetBasicAuth(name, "")
			frames["user of Basic"] = `{"type":"join","room":"garage"}`
		}
		for place, frame := range frames {
			tries++
			var header http.Header
			if place == "user of Basic" {
				header = basic
			}
			code, words := says(t, s.WS, header, frame)
			if code != 400 && !(code == 413 && len(name) > 1000) {
				t.Errorf("%.60q as %s: %d %s", name, place, code, words)
			}
			inWords(t, place, name, words)
		}
	}
	return tries
}

// wrongRequests tries names in the paths and bodies of requests. Those that are no
// part of a path reach no handler, or another (RFC 3986, 5.2.4 and 6.2.2).
func wrongRequests(t *testing.T, s *site) (tries int) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for _, name := range wrongNames {
		if len(name) > 1000 {
			continue // a header that is too long, which is row 14
		}
		for _, c := range []struct{ place, method, path, mediaType, body string }{
			{"room of a look", "GET", "/api/v1/rooms/%s/peers", "", ""},
			{"room of a stream", "GET", "/api/v1/rooms/%s/peers/mallory/events", "", ""},
			{"peer of a stream", "GET", "/api/v1/rooms/attic/peers/%s/events", "", ""},
			{"room of a message", "POST", "/api/v1/rooms/%s/peers/mallory/messages", "application/json", `{"type":"msg"}`},
			{"sender of a message", "POST", "/api/v1/rooms/attic/peers/%s/messages", "application/json", `{"type":"msg"}`},
			{"room of WHEP", "POST", "/whep/%s/canary", "application/sdp", "v=0\r\n"},
			{"peer of WHEP", "POST", "/whep/garage/%s", "application/sdp", "v=0\r\n"},
			{"room of WHIP", "POST", "/whip/%s/canary", "application/sdp", "v=0\r\n"},
			{"peer of WHIP", "POST", "/whip/garage/%s", "application/sdp", "v=0\r\n"},
		} {
			tries++
			r, err := http.NewRequest(c.method, s.URL+strings.Replace(c.path, "%s", url.PathEscape(name), 1), strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.mediaType)
			answer, err := client.Do(r)
			if err != nil {
				t.Errorf("%.60q as %s: %v", name, c.place, err)
				continue
			}
			said, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			switch answer.StatusCode {
			case http.StatusBadRequest:
				inWords(t, c.place, name, string(said))
			case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusNotFound, http.StatusMethodNotAllowed:
				if name != "" && name != "." && name != ".." && !strings.Contains(name, "/") {
					t.Errorf("%.60q as %s: %s %s", name, c.place, answer.Status, said)
				}
			default:
				t.Errorf("%.60q as %s: %s %s", name, c.place, answer.Status, said)
			}
		}
	}
	return tries
}

const namesSecret = "hunter2: the secret of the tokens with wrong names"

// signedWith makes a token by hand, since its claims may be no JSON.
func signedWith(secret, claims string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

func TestWrongNamesAreRefusedInTokens(t *testing.T) {
	t.Parallel()
	threat.Row(t, 20, 0)
	s := startSite(t, "--jwt-key="+writeFile(t, "jwt.key", namesSecret), "--limit-logins=0", "--log-level=info")
	token := func(sub, room, role string) string {
		return signedWith(namesSecret, fmt.Sprintf(`{"sub":%s,"room":%s,"role":%q,"exp":%d}`, sub, room, role, time.Now().Add(time.Hour).Unix()))
	}
	observer := s.wire(t, "tcp", 5)
	observer.connect("o", "", token(`"olga"`, `"*"`, "observer"))
	if a := observer.ask(observer.subscription("rtc/v1/#")); a[0].code != 0 {
		t.Fatal(a)
	}
	tries := 0
	for _, name := range wrongNames {
		n := jsonName(name)
		claims := map[string]string{
			"sub of a token":              token(n, `"garage"`, "peer"),
			"one of the rooms of a token": token(`"mallory"`, `["garage",`+n+`]`, "peer"),
			"beginning of rooms":          token(`"mallory"`, jsonName(name+"*"), "peer"),
		}
		if name == "" { // so the beginning of all, which is one
			delete(claims, "beginning of rooms")
		}
		if name == "*" {
			delete(claims, "one of the rooms of a token")
		}
		for place, token := range claims {
			tries += 4
			join := `{"type":"join","room":"garage"}`
			long := len(token) > 8<<10
			for how, ask := range map[string]func() (int, string){
				"Bearer": func() (int, string) { return says(t, s.WS, http.Header{"Authorization": {"Bearer " + token}}, join) },
				"query":  func() (int, string) { return says(t, s.WS+"?access_token="+url.QueryEscape(token), nil, join) },
				"join": func() (int, string) {
					return says(t, s.WS, nil, `{"type":"join","room":"garage","token":"`+token+`"}`)
				},
			} {
				code, words := ask()
				if code != 401 && !(long && (code == 413 || code == 431)) {
					t.Errorf("%.60q as %s by %s: %d %s", name, place, how, code, words)
				}
				inWords(t, place+" by "+how, name, words)
			}
			if len(token) > 0xffff {
				continue
			}
			w := s.wire(t, "tcp", 5)
			code, body := w.connect("x", "", token)
			if code != 0x86 {
				t.Errorf("%.60q as %s by MQTT: CONNACK %#x %q", name, place, code, body)
			}
			inWords(t, place+" by MQTT", name, body)
			w.conn.Close()
		}
	}
	if alice := s.member(t, jsonWS, "alice", token(`"alice"`, `"garage"`, "peer")); alice != nil {
		alice.quiet()
	}
	for _, h := range observer.heardUntil("rtc/v1/garage/peers/alice") {
		if h.topic != "rtc/v1/garage/peers/alice" {
			t.Errorf("the observer sees %.100q: %.200q", h.topic, h.payload)
		}
	}
	t.Logf("%d tries", tries)
}

// heardUntil reads until something came at topic.
func (w *wire) heardUntil(topic string) []heard {
	w.t.Helper()
	for len(w.heard) == 0 || w.heard[len(w.heard)-1].topic != topic {
		if _, _, err := w.read(); err != nil {
			w.t.Fatalf("nothing at %s: %v", topic, err)
		}
	}
	return w.take()
}

func TestWrongNamesAreRefusedInFilesAndCommands(t *testing.T) {
	t.Parallel()
	threat.Row(t, 20, 0)
	hash := auth.HashPassword("hunter2 of nobody")
	key := writeFile(t, "jwt.key", namesSecret)
	refused := func(users string) string {
		code, stdout, stderr := typed(t, "", "serve", "--listen=127.0.0.1:0", "--users="+writeFile(t, "users.yaml", users))
		if code != exitUsage || stdout != "" {
			t.Errorf("%.200q: exit code %d, %q, %s", users, code, stdout, stderr)
		}
		return stderr
	}
	var entries []string // a line for each: all mistakes are told at once
	for _, name := range wrongNames {
		form := "- {name: %s, password: " + jsonName(hash) + ", rooms: %s, role: viewer, peer: %s}\n"
		for place := range 3 {
			good := []any{fmt.Sprint("a", len(entries)), "garage", "cam1"}
			good[place] = strconv.QuoteToASCII(name) // whose escapes are YAML's, too
			if !utf8.ValidString(name) {
				good[place] = jsonName(name)
			}
			entry := fmt.Sprintf(form, good...)
			switch {
			case place == 1 && name == "*": // every room
			case !utf8.ValidString(name):
				inWords(t, "name in a file", name, refused(entry))
			default:
				entries = append(entries, entry)
			}
		}
		if strings.ContainsRune(name, 0) || len(name) > 1000 || name == "*" || name == "a,b" { // no argument, or two
			continue
		}
		code, stdout, stderr := typed(t, "", "token", "--jwt-key="+key, "--name="+name, "--room="+name)
		if code != exitUsage || stdout != "" || name != "" && strings.Count(stderr, "is not a name") < 2 {
			t.Errorf("%q in beckon token: exit code %d, %q, %s", name, code, stdout, stderr)
		}
	}
	stderr := refused(strings.Join(entries, ""))
	for i, entry := range entries {
		if !strings.Contains(stderr, fmt.Sprintf("users.yaml:%d: ", i+1)) {
			t.Errorf("not a word on %.100q", entry)
		}
	}
}
