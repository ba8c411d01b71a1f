package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// This is row 24 of package threat: a server that is full of secrets, in whose log
// and answers none is found. Each has marker in it, but for what is made of
// them.

const marker = "hunter2"

// forms are what a secret looks like when it is printed one way or another.
func forms(secret string) []string {
	all := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))), url.QueryEscape(secret), url.PathEscape(secret)}
	if text, err := json.Marshal(secret); err == nil {
		all = append(all, string(text[1:len(text)-1]))
	}
	list := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
	all = append(all, list, strings.ReplaceAll(list, " ", ","), strings.ReplaceAll(list, " ", ", "), fmt.Sprintf("% x", secret))
	for shift := range 3 { // where it begins within three bytes that become four letters
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(append(make([]byte, shift), secret...))
			all = append(all, text[(shift*8+5)/6:(shift+len(secret))*8/6])
		}
	}
	return all
}

func TestFormsOfASecretAreFound(t *testing.T) {
	for _, text := range []string{
		"x" + marker + "x",
		base64.StdEncoding.EncodeToString([]byte("user:" + marker + "!")),
		base64.StdEncoding.EncodeToString([]byte("user1:" + marker)),
		base64.URLEncoding.EncodeToString([]byte("user12:" + marker + ">>>")),
		hex.EncodeToString([]byte("a" + marker)),
		fmt.Sprint([]byte("a" + marker + "b")),
		strings.ReplaceAll(fmt.Sprint([]byte(marker)), " ", ","),
		fmt.Sprintf("% x", marker),
	} {
		if found(text, marker) == "" {
			t.Errorf("not found in %s", text)
		}
	}
}

// found returns the form of a secret that is in text, or "".
func found(text, secret string) string {
	for _, form := range forms(secret) {
		if strings.Contains(text, form) {
			return form
		}
	}
	return ""
}

// secretive is a server, the secrets that it has, and what it said.
type secretive struct {
	*site
	t       *testing.T
	secrets map[string]string // what each is
	mu      sync.Mutex        // guards said
	said    []string          // answers, with where they came from
}

func (s *secretive) plant(what, secret string) string {
	s.secrets[what] = secret
	return secret
}

func (s *secretive) note(where, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, where+": "+answer)
}

// granted is what the server tells a peer of ICE servers: it is for that peer.
var granted = regexp.MustCompile(`"iceServers":\[[^]]*(\][^]]*)*?\],"ttl"`)

// search fails for each secret that is where it should not be.
func (s *secretive) search() {
	s.t.Helper()
	texts := append(s.said, "log: "+s.Log.String())
	for _, text := range texts {
		text = granted.ReplaceAllString(text, `"iceServers":[],"ttl"`)
		for what, secret := range s.secrets {
			form := found(text, secret)
			if form == "" {
				continue
			}
			at := strings.Index(text, form)
			s.t.Errorf("%s is there, as %q:\n%s", what, form, text[max(0, at-300):min(len(text), at+len(form)+100)])
		}
	}
	for line := range strings.Lines(s.Log.String()) {
		if debug := strings.Contains(line, "level=DEBUG") || strings.Contains(line, `"level":"DEBUG"`); !debug && strings.Contains(line, candidateAddress) {
			s.t.Errorf("the address of a candidate is in %s", line)
		}
	}
}

const (
	candidateAddress = "203.0.113.77"
	secretPassword   = "alice's hunter2 password"
	secretWrong      = "a wrong hunter2, typed by mistake"
	secretKey        = "hunter2, with which tokens are signed, is long"
	secretTURN       = "hunter2, which is shared with coturn"
	secretAPIKey     = "beckon_hunter2_the_shop_has_it"
	secretHook       = "hunter2-of-the-webhook"
	secretSDP        = "v=0\\r\\na=ice-ufrag:EsAw\\r\\na=ice-pwd:hunter2passwordofice22\\r\\na=candidate:1 1 udp 1 " + candidateAddress + " 9 typ host\\r\\n"
	secretPEM        = "-----BEGIN PRIVATE KEY-----\nhunter2/hunter2/hunter2\n-----END PRIVATE KEY-----\n"
	secretLine       = "hunter2-in-plain-text" // in a file, where a hash should be
)

// startSecretive starts a server with every setting that is a secret, or has one
// in it.
func startSecretive(t *testing.T, format string) (s *secretive, users string) {
	s = &secretive{t: t, secrets: map[string]string{"the marker": marker}}
	users = filepath.Join(t.TempDir(), "users.yaml")
	account := auth.Account{Name: "alice", Password: s.plant("the hash of a password", auth.HashPassword(secretPassword)), Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}}}
	camera := account
	camera.Name, camera.Device = "cam1", true
	if err := errors.Join(auth.SetUser(users, account), auth.SetUser(users, camera)); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) % 4 { // each of its ways to fail
		case 0:
			http.Error(w, "no such user, "+secretHook, http.StatusInternalServerError)
		case 1:
			fmt.Fprintf(w, `{"name":"dave","rooms":"garage","password":%q}`, secretHook)
		case 2:
			fmt.Fprintf(w, `{"name":%q`, secretHook)
		default:
			http.Redirect(w, r, "https://user:"+secretHook+"@elsewhere.example/?key="+secretHook, http.StatusFound)
		}
	}))
	t.Cleanup(hook.Close)
	sum := sha256.Sum256([]byte(secretAPIKey))
	keys := fmt.Sprintf("- {name: shop, hash: \"sha256:%s\", rooms: garage, names: [guest-*]}\n", s.plant("the hash of the API key", hex.EncodeToString(sum[:])))
	s.site = startSite(t, "--log-level=debug", "--log-format="+format, "--limit-logins=0", "--origin=https://app.example",
		"--users="+users, "--jwt-key="+writeFile(t, "jwt.key", secretKey), "--api-key="+writeFile(t, "keys.yaml", keys),
		"--turn-secret="+writeFile(t, "turn", secretTURN), "--turn-listen=127.0.0.1:0", "--ice-server=turn:turn.example",
		"--wake-url=http://user:"+secretHook+"@127.0.0.1:1/wake?key="+secretHook,
		"--auth-url="+strings.Replace(hook.URL, "//", "//user:"+secretHook+"@", 1)+"/?key="+secretHook)
	return s, users
}

func (s *secretive) token(what string, ttl time.Duration) string {
	claims := fmt.Sprintf(`{"sub":"alice","room":"garage","exp":%d}`, time.Now().Add(ttl).Unix())
	token := signedWith(secretKey, claims)
	s.plant("the token that is "+what, token)
	s.plant("the signature of the token that is "+what, token[strings.LastIndexByte(token, '.')+1:])
	return token
}

// dialogue sends packets to the door of MQTT and notes all that comes back.
func (s *secretive) dialogue(what string, at entrance, packets ...string) {
	conn, err := s.open(at.scheme)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(atMost))
	_, _ = io.WriteString(conn, strings.Join(packets, "")+"\xe0\x00") // it may be closed by now
	if strings.HasPrefix(what, "half") {
		return // the server would wait for the other half
	}
	answer, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		s.t.Errorf("%s by %v: the server neither answers nor closes", what, at)
	}
	s.note(fmt.Sprintf("MQTT (%v), %s", at, what), string(answer))
}

// mqtt tries to have the broker show a secret.
func (s *secretive) mqtt(at entrance, good, foreign, expired string) {
	w := &wire{version: versionOf(at)}
	connect := func(user, password string) string { return w.connection("x", user, password) }
	in := connect("alice", secretPassword)
	for what, packets := range map[string][]string{
		"a good password":       {in},
		"a wrong password":      {connect("alice", secretWrong)},
		"somebody unknown":      {connect("nobody", secretWrong)},
		"a password as a user":  {connect(secretPassword, secretWrong)},
		"a good token":          {connect("alice", good)},
		"a foreign token":       {connect("alice", foreign)},
		"an expired token":      {connect("alice", expired)},
		"a token of another":    {connect("bob", good)},
		"a token, cut":          {connect("alice", good[:len(good)-3])},
		"a second CONNECT":      {in, in},
		"CONNECT, flag 0":       {"\x10", connect("alice", secretPassword)[1:10], "\xc3", connect("alice", secretPassword)[11:]},
		"CONNECT, version 9":    {mqttPacket(0x10, mqttText("MQTT"), "\x09\xc2\x00\x3c", w.none(), mqttText("x"), mqttText("alice"), mqttText(secretPassword))},
		"CONNECT, protocol":     {mqttPacket(0x10, mqttText(secretPassword), "\x04\xc2\x00\x3c", w.none(), mqttText("x"), mqttText("alice"), mqttText(secretPassword))},
		"CONNECT, a NUL":        {connect("ali\x00ce", secretPassword)},
		"CONNECT, NUL in it":    {connect("alice", secretPassword+"\x00"), w.publication("a", secretPassword, false)},
		"CONNECT, no UTF-8":     {connect("alice\xff"+marker, secretPassword)},
		"CONNECT, more behind":  {mqttPacket(0x10, connect("alice", secretPassword)[2:], secretPassword)},
		"CONNECT, too short":    {mqttPacket(0x10, connect("alice", secretPassword)[2:40])},
		"CONNECT, no user":      {mqttPacket(0x10, mqttText("MQTT"), string([]byte{w.version, 0x42, 0, 60}), w.none(), mqttText("x"), mqttText(secretPassword))},
		"a will that may not":   {mqttPacket(0x10, mqttText("MQTT"), string([]byte{w.version, 0xc6, 0, 60}), w.none(), mqttText("x"), w.none(), mqttText("rtc/v1/garage/to/cam1/bob"), mqttText(secretPassword), mqttText("alice"), mqttText(secretPassword))},
		"a will of no message":  {mqttPacket(0x10, mqttText("MQTT"), string([]byte{w.version, 0xc6, 0, 60}), w.none(), mqttText("x"), w.none(), mqttText("rtc/v1/garage/to/cam1/alice"), mqttText(secretPassword), mqttText("alice"), mqttText(secretPassword))},
		"no CONNECT":            {w.publication("rtc/v1/garage/all/alice", secretPassword, false)},
		"half a packet":         {in, "\x30\x7f\x00\x05" + secretPassword},
		"a packet of no type":   {in, mqttPacket(0xf5, secretPassword)},
		"what must not be said": {in, w.subscription("rtc/v1/garage/to/alice/+"), s.unheard(w)},
		"UNSUBSCRIBE of it":     {in, w.unsubscription("rtc/v1/" + strings.Repeat("x/", 20) + marker[:6])},
	} {
		s.dialogue(what, at, packets...)
	}
	if w.version < 5 {
		return
	}
	property := func(id byte, values ...string) string {
		text := string([]byte{id})
		for _, v := range values {
			text += mqttText(v)
		}
		return string([]byte{byte(len(text))}) + text
	}
	for what, properties := range map[string]string{
		"authentication of another kind": property(0x15, "PLAIN"),
		"user properties":                property(0x26, "password", secretPassword),
		"data of authentication":         property(0x16, secretPassword),
	} {
		s.dialogue(what, at, mqttPacket(0x10, mqttText("MQTT"), "\x05\xc2\x00\x3c", properties, mqttText("x"), mqttText("alice"), mqttText(secretPassword)))
	}
	s.dialogue("AUTH", at, in, mqttPacket(0xf0, "\x18", property(0x15, secretPassword)))
	s.dialogue("DISCONNECT", at, in, mqttPacket(0xe0, "\x04", property(0x1f, secretPassword)))
}

// unheard are messages that nobody gets, for one reason each.
func (s *secretive) unheard(w *wire) (packets string) {
	offer := `{"type":"offer","session":"k1","sdp":"` + secretSDP + `"}`
	candidate := `{"type":"candidate","session":"k1","candidate":"candidate:1 1 udp 1 ` + candidateAddress + ` 9 typ host ufrag hunter2"}`
	for topic, payloads := range map[string][]string{
		"rtc/v1/garage/to/nobody/alice": {offer, candidate},
		"rtc/v1/garage/to/nobody/bob":   {offer},
		"rtc/v1/garage/to/cam1/alice":   {offer, candidate}, // which sleeps
		"rtc/v1/attic/to/cam1/alice":    {offer},
		"rtc/v1/garage/to/_/alice":      {offer, `{"type":"ice"}`},
		"rtc/v1/garage/peers/alice":     {`{"online":7,"name":"` + secretPassword + `"}`, secretPassword},
		"elsewhere":                     {secretPassword},
		"rtc/v1/garage/all/alice": {
			secretPassword, `{"type":"msg","data":"` + secretPassword, `{"type":"offer","sdp":"` + secretSDP + `"}`,
			`{"type":"msg","from":7,"data":"` + secretPassword + `"}`, `{"type":"msg","data":"\ud800` + secretPassword + `"}`,
			`{"type":"offer","session":7,"sdp":"` + secretSDP + `"}`, strings.Repeat("[", 20) + marker, "\xff" + secretPassword,
		},
	} {
		for _, p := range payloads {
			packets += w.publication(topic, p, false)
		}
	}
	return packets
}

// json tries to have the WebSocket show a secret.
func (s *secretive) json(good, foreign, expired string) {
	join := `{"type":"join","room":"garage"}`
	with := func(token string) string { return `{"type":"join","room":"garage","token":"` + token + `"}` }
	basic := func(user, password string) http.Header {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return r.Header
	}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	offer := `{"type":"offer","session":"k1","to":"nobody","sdp":"` + secretSDP + `"}`
	for what, c := range map[string]struct {
		query  string
		header http.Header
		frames []string
	}{
		"a good password":    {"", basic("alice", secretPassword), []string{join, offer, `{"type":"ice","to":"_"}`}},
		"a wrong password":   {"", basic("alice", secretWrong), []string{join}},
		"somebody unknown":   {"", basic("nobody", secretWrong), []string{join}},
		"no Basic":           {"", http.Header{"Authorization": {"Basic " + secretPassword}}, []string{join}},
		"another scheme":     {"", http.Header{"Authorization": {"Digest " + secretPassword}}, []string{join}},
		"a good token":       {"", bearer(good), []string{join, offer}},
		"a foreign token":    {"", bearer(foreign), []string{join}},
		"an expired token":   {"", bearer(expired), []string{join}},
		"no token":           {"", bearer(secretPassword), []string{join}},
		"a query":            {"?access_token=" + good, nil, []string{join, offer}},
		"a wrong query":      {"?access_token=" + foreign, nil, []string{join}},
		"no token in it":     {"?access_token=" + url.QueryEscape(secretPassword), nil, []string{join}},
		"join":               {"", nil, []string{with(good), offer}},
		"join, expired":      {"", nil, []string{with(expired)}},
		"join, no token":     {"", nil, []string{with(secretPassword)}},
		"join, twice":        {"", nil, []string{`{"type":"join","room":"garage","token":"` + good + `","token":"` + secretPassword + `"}`, join}},
		"join, a list":       {"", nil, []string{`{"type":"join","room":"garage","token":["` + secretPassword + `"]}`, join}},
		"join, half of it":   {"", nil, []string{with(good)[:80], `{"type":"join","room":"garage","token":"` + secretPassword, join}},
		"join, too long":     {"", nil, []string{with(strings.Repeat(secretPassword, 500))}},
		"token before join":  {"", nil, []string{`{"type":"refresh","token":"` + good + `"}`, join}},
		"refresh":            {"", bearer(good), []string{join, `{"type":"refresh","token":"` + good + `"}`, `{"type":"refresh","token":"` + foreign + `"}`, `{"type":"refresh","token":"` + secretPassword + `"}`, `{"type":"refresh","token":7,"x":"` + secretPassword + `"}`}},
		"frames of no kind":  {"", bearer(good), []string{join, secretPassword, `{"type":"msg","data":"` + secretPassword, `{"type":"offer","to":"cam1","sdp":"` + secretSDP + `"}`, "\xff" + secretPassword, `{"type":"presence","presence":"` + secretPassword + `"}`}},
		"a foreign page":     {"?access_token=" + good, http.Header{"Origin": {"https://evil.example"}}, nil},
		"a frame of bytes":   {"", bearer(good), []string{join, "\x00binary " + secretPassword}},
		"a close with words": {"", bearer(good), []string{join, "\x00close " + secretPassword}},
	} {
		s.frames(what, c.query, c.header, c.frames)
	}
}

// frames sends frames, and then asks to be closed, and notes what comes.
func (s *secretive) frames(what, query string, header http.Header, frames []string) {
	what = "JSON, " + what
	ws, answer, err := websocket.DefaultDialer.Dial(s.WS+query, header)
	if err != nil {
		if answer == nil {
			s.t.Fatal(err)
		}
		s.noteAnswer(what, answer)
		return
	}
	defer ws.Close()
	_ = ws.SetReadDeadline(time.Now().Add(atMost))
	for _, f := range append(frames, "\x00close ") {
		kind := websocket.TextMessage
		if rest, ok := strings.CutPrefix(f, "\x00close "); ok {
			kind, f = websocket.CloseMessage, string(websocket.FormatCloseMessage(websocket.CloseNormalClosure, rest))
		} else if strings.HasPrefix(f, "\x00binary ") {
			kind = websocket.BinaryMessage
		}
		_ = ws.WriteMessage(kind, []byte(f)) // it may be closed by now
	}
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			if !strings.Contains(what, "close with words") { // which come back to who said them (RFC 6455, 5.5.1)
				s.note(what, err.Error())
			}
			return
		}
		s.note(what, string(frame))
	}
}

func (s *secretive) noteAnswer(what string, answer *http.Response) {
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	s.note(what, fmt.Sprint(answer.Status, answer.Header, string(body)))
}

// http tries to have the HTTP side show a secret.
func (s *secretive) http(good, foreign string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(method, path, body string, header ...string) {
		r, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := client.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		s.noteAnswer(method+" "+strings.Split(path, "?")[0], answer)
	}
	for _, path := range []string{"/", "/ws", "/mqtt", "/nowhere", "/healthz", "/readyz", "/api/v1/tokens", "/api/v1/rooms", "/whep/garage/cam1", "//ws", "/ws/../mqtt"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			query := "?access_token=" + good + "&password=" + url.QueryEscape(secretPassword)
			if strings.HasPrefix(path, "//") || strings.Contains(path, "..") {
				query = "" // a redirect repeats it, to who said it
			}
			ask(method, path+query, "", "Authorization", "Bearer "+foreign, "Cookie", "session="+marker, "Upgrade", "websocket", "Connection", "Upgrade")
		}
	}
	const tokens = "/api/v1/tokens"
	wanted := `{"name":"guest-1","room":"garage"}`
	for _, c := range []struct{ body, authorization, kind string }{
		{wanted, "Bearer " + secretAPIKey + "x", "application/json"},
		{wanted, "Basic " + secretAPIKey, "application/json"},
		{wanted, "Bearer " + good, "application/json"},
		{`{"name":"guest-1","room":"attic"}`, "Bearer " + secretAPIKey, "application/json"},
		{`{"name":"guest-1","room":"garage","key":"` + secretAPIKey + `"}`, "", "application/json"},
		{`{"name":"guest-1","room":"garage","key":"` + secretAPIKey + `"}`, "Bearer " + secretAPIKey, "application/json"},
		{`{"` + secretAPIKey + `":1}`, "Bearer " + secretAPIKey, "application/json"},
		{secretAPIKey, "Bearer " + secretAPIKey, "application/json"},
		{"key=" + secretAPIKey, "Bearer " + secretAPIKey, "application/x-www-form-urlencoded"},
		{strings.Repeat(secretAPIKey, 1000), "Bearer " + secretAPIKey, "application/json"},
	} {
		ask("POST", tokens, c.body, "Content-Type", c.kind, "Authorization", c.authorization)
	}
	answer, body := post(s.t, s.URL+tokens, wanted, "Authorization", "Bearer "+secretAPIKey)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || answer.StatusCode != http.StatusCreated {
		s.t.Fatalf("no token was made: %d %s", answer.StatusCode, body)
	}
	s.plant("the token that was made", made.Token)
	if found(body, marker) != "" {
		s.t.Errorf("a secret is in %s", body)
	}
	for what, bytes := range map[string]string{ // what is no HTTP, and what is hardly any
		"words":       secretPassword + "\r\n\r\n",
		"no version":  "GET /ws?access_token=" + good + "\r\n\r\n",
		"version 9.9": "GET /ws?access_token=" + good + " HTTP/9.9\r\n\r\n",
		"a header":    "GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization " + secretPassword + "\r\n\r\n",
		"a NUL":       "GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secretPassword + "\x00\r\n\r\n",
		"no host":     "GET /ws?access_token=" + good + " HTTP/1.1\r\nAuthorization: Bearer " + good + "\r\n\r\n",
		"bad escape":  "GET /ws?access_token=%zz" + marker + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"bad path":    "GET /%zz" + marker + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"a method":    marker + " / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"CONNECT":     "CONNECT user:" + marker + "@x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"half a TLS":  "\x16\x03\x01\x00\x40" + secretPassword + secretPassword + secretPassword,
	} {
		s.dialogue(what, entrance{"HTTP", "tcp"}, bytes)
	}
}

// turn has the TURN server refuse somebody, and talks rubbish to it.
func (s *secretive) turn() {
	alice := s.member(s.t, jsonWS, "alice", secretPassword)
	alice.line.(*lineJSON).ws.Close()
	bob, err := s.login(s.t, jsonWS, "alice", secretPassword)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := bob.line.join("garage"); err != nil {
		s.t.Fatal(err)
	}
	welcome := bob.until("its welcome", func(e event) bool { return e.kind == "joined" })
	var hello struct {
		ICEServers []topics.ICEServer `json:"iceServers"`
	}
	if err := json.Unmarshal([]byte(welcome.text), &hello); err != nil {
		s.t.Fatal(err)
	}
	made := 0
	for _, server := range hello.ICEServers {
		if server.Credential != "" {
			made++
			s.plant("the TURN credential", server.Credential)
		}
		for _, u := range server.URLs {
			addr, ok := strings.CutPrefix(u, "stun:")
			if !ok {
				continue
			}
			conn, err := net.Dial("udp", addr)
			if err != nil {
				s.t.Fatal(err)
			}
			// An Allocate with a user name, and what is none.
			attribute := "\x00\x06\x00\x08" + marker + "!"
			_, _ = io.WriteString(conn, "\x00\x03\x00\x0c\x21\x12\xa4\x42"+"0123456789ab"+attribute)
			answer := make([]byte, 1500)
			_ = conn.SetDeadline(time.Now().Add(atMost))
			n, err := conn.Read(answer)
			if err != nil {
				s.t.Fatal(err)
			}
			s.note("TURN", string(answer[:n]))
			_, _ = io.WriteString(conn, secretTURN)
			_, _ = io.WriteString(conn, "\x00\x03\x00\xff\x21\x12\xa4\x42"+secretTURN)
			conn.Close()
			tcp := dial(s.t, addr)
			_, _ = io.WriteString(tcp, secretTURN)
			tcp.Close()
		}
	}
	if made == 0 {
		s.t.Fatalf("there are no credentials in %s", welcome.text)
	}
	bob.leave()
}

// brokenUsers are users files in which a password stands in plain text, on the
// line that is wrong.
var brokenUsers = []string{
	"- name: alice\n  password: " + secretLine + "\n  rooms: garage\n",
	"- name: alice\n  pasword: " + secretLine + "\n",
	"- name: alice\n  password: [" + secretLine + "\n",
	"- name: alice\n  password: *" + secretLine + "\n",
	"- name: alice\n  password: &" + secretLine + " \n",
	"- name: alice\n  password: !" + secretLine + " x\n",
	"- name: alice\n  password: \"" + secretLine + "\n",
	"- name: alice\n  password: %" + secretLine + "\n",
	"- name: alice\n  password: `" + secretLine + "\n",
	"- name: alice\n  password: {" + secretLine + ": x}\n",
	"- name: alice\n  password: [" + secretLine + "]\n",
	"- name: alice\n  password:\n    " + secretLine + ": x\n",
	"- name: alice\n  " + secretLine + "\n  rooms: garage\n",
	"- name: alice\n  " + secretLine + ": x\n",
	"- name: alice\n  device: " + secretLine + "\n",
	"- " + secretLine + "\n",
	secretLine + "\n",
	"- name: alice\n  password: |\n    " + secretLine + "\n",
	"- rooms: garage\n  name: alice\n  password " + secretLine + "\n", // and no colon
	"- name: alice\n  rooms: garage\n  password " + secretLine + "\n",
	"- name: alice\n  rooms: garage\n  role: peer\n  password " + secretLine + "\n",
	"- rooms: garage\n  name: alice\n    password " + secretLine + "\n",
	"- name: alice\n  rooms: garage\n    password " + secretLine + "\n",
	"- name: alice\n  rooms: garage\n  role: peer\n    password " + secretLine + "\n",
	"- name: alice\n  rooms: garage\n  device: true\n    password " + secretLine + "\n",
	"- name: alice\n  rooms: garage\n  role: viewer\n  peer: cam1\n    password " + secretLine + "\n",
	"- name: alice password: " + secretLine + "\n",
	"- name: alice\n\tpassword: " + secretLine + "\n",
	"- {name: alice, password: " + secretLine + "\n",
	"- {name: alice, rooms: garage password: " + secretLine + "}\n",
	"- {name: alice, rooms: garage, topics: \"home/# password " + secretLine + "\"}\n",
}

// reload gives the server files that are wrong.
func (s *secretive) reload(users string) {
	good, err := os.ReadFile(users)
	if err != nil {
		s.t.Fatal(err)
	}
	failed := func() int { return strings.Count(s.Log.String(), "reload failed") }
	for i, text := range brokenUsers {
		before := failed()
		replace(s.t, users, text)
		s.Reload <- os.Interrupt
		eventually(s.t, fmt.Sprintf("a word on broken users file %d", i), func() bool { return failed() > before })
	}
	replace(s.t, users, string(good))
}

// TestNoSecretIsInTheLogOrInAnyAnswer is about a whole server.
func TestNoSecretIsInTheLogOrInAnyAnswer(t *testing.T) {
	t.Parallel()
	threat.Row(t, 24, threat.TCP|threat.WS|threat.JSON|threat.HTTP)
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s, users := startSecretive(t, format)
			good, expired := s.token("good", time.Hour), s.token("expired", -time.Hour)
			foreign := signedWith(secretWrong+secretWrong, `{"sub":"alice","room":"garage","exp":1}`)
			s.plant("the token that is foreign", foreign)
			sleeper := &wire{version: 4}
			s.dialogue("a camera", mqtt3TCP, sleeper.connection("x", "cam1", secretPassword), sleeper.subscription("rtc/v1/garage/to/cam1/+"))
			for _, at := range []entrance{mqtt3TCP, mqtt5TCP, mqtt3WSS, mqtt5WS} {
				s.mqtt(at, good, foreign, expired)
			}
			s.json(good, foreign, expired)
			s.http(good, foreign)
			s.turn()
			s.reload(users)
			s.awaitLog(t, "wake webhook failed")
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if log := s.Log.String(); !strings.Contains(log, "level=DEBUG") && !strings.Contains(log, `"level":"DEBUG"`) || strings.Contains(log, "panic") {
				t.Errorf("the log is not what it should be:\n%s", log)
			}
			s.search()
			t.Logf("%d secrets in %d answers and %d bytes of log", len(s.secrets), len(s.said), len(s.Log.String()))
		})
	}
}

// TestNoSecretIsInWhatCommandsSay is about all that a command says, but for the
// token of token and the password of passwd --generate, on standard output.
func TestNoSecretIsInWhatCommandsSay(t *testing.T) {
	t.Parallel()
	threat.Row(t, 24, 0)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	withUser := func(address string) string {
		return strings.Replace(address, "//", "//user:"+marker+"@", 1) + "/?token=" + marker
	}
	key, short := writeFile(t, "jwt.key", secretKey), writeFile(t, "short", marker)
	lines, pem := writeFile(t, "lines", secretTURN+"\n"+secretTURN), writeFile(t, "key.pem", secretPEM)
	users := filepath.Join(t.TempDir(), "users.yaml")
	cert, _ := writeCertificate(t)
	serve := func(args ...string) []string { return append([]string{"serve", "--listen=127.0.0.1:0"}, args...) }
	dev := func(args ...string) []string { return serve(append(args, "--dev")...) }
	type command struct {
		name  string
		input string
		args  []string
		code  int
	}
	commands := []command{
		{"passwd", secretPassword, []string{"passwd", "--users", users, "alice", "--room=garage"}, exitOK},
		{"passwd, short", marker, []string{"passwd", "--users", users, "alice"}, exitUsage},
		{"passwd, two lines", secretPassword + "\n" + secretPassword, []string{"passwd", "--users", users, "alice"}, exitUsage},
		{"passwd, long", strings.Repeat(secretPassword, 100), []string{"passwd", "--users", users, "alice"}, exitUsage},
		{"passwd, bad name", secretPassword, []string{"passwd", "--users", users, "a/b", "--room=garage"}, exitUsage},
		{"token", "", []string{"token", "--jwt-key", key, "--name=alice", "--room=garage"}, exitOK},
		{"token, short key", "", []string{"token", "--jwt-key", short, "--name=alice", "--room=garage"}, exitUsage},
		{"token, key of no kind", "", []string{"token", "--jwt-key", pem, "--name=alice", "--room=garage"}, exitUsage},
		{"version", "", []string{"version"}, exitOK},
		{"health", "", []string{"health", withUser(web.URL)}, exitFailed},
		{"health, nobody there", "", []string{"health", withUser("http://127.0.0.1:1")}, exitFailed},
		{"health, no URL", "", []string{"health", withUser("http://127.0.0.1:port")}, exitUsage},
		{"serve, short key", "", serve("--jwt-key=" + short), exitUsage},
		{"serve, key of no kind", "", serve("--jwt-key=" + pem), exitUsage},
		{"serve, key of TLS", "", dev("--tls-cert="+cert, "--tls-key="+pem), exitUsage},
		{"serve, key as certificate", "", dev("--tls-cert="+pem, "--tls-key="+pem), exitUsage},
		{"serve, short secret", "", dev("--ice-server=turn:turn.example", "--turn-secret="+short), exitUsage},
		{"serve, two secrets", "", dev("--ice-server=turn:turn.example", "--turn-secret="+lines), exitUsage},
		{"serve, webhook", "", serve("--auth-url=" + withUser("ftp://auth.example")), exitUsage},
		{"serve, webhook of no URL", "", serve("--auth-url=" + withUser("https://auth.example:port")), exitUsage},
		{"serve, wake", "", dev("--wake-url=" + withUser("ftp://gateway.example")), exitUsage},
		{"serve, wake of no URL", "", dev("--wake-url=" + withUser("https://gateway.example:port")), exitUsage},
		{"serve, keys", "", serve("--jwks=" + withUser("http://id.example")), exitUsage},
		{"serve, keys of no URL", "", serve("--jwks=" + withUser("https://id.example:port")), exitUsage},
		{"serve, TURN with a user", "", dev("--ice-server=turn:alice:" + marker + "@turn.example"), exitUsage},
		{"serve, a file of settings", "", serve("--config=" + writeFile(t, "beckon.yaml", "turn-password: "+secretTURN+"\njwt-key: ["+secretKey+"]\n")), exitUsage},
		{"serve, settings with a user", "", serve("--config=" + writeFile(t, "beckon.yaml", "auth-url: "+withUser("ftp://auth.example")+"\n")), exitUsage},
		{"serve, API keys", "", serve("--jwt-key="+key, "--api-key="+writeFile(t, "keys.yaml", "- {name: shop, hash: "+secretAPIKey+", rooms: garage}\n")), exitUsage},
	}
	for i, text := range brokenUsers {
		file := writeFile(t, "users.yaml", text)
		commands = append(commands,
			command{fmt.Sprint("serve, users file ", i), "", serve("--users=" + file), exitUsage},
			command{fmt.Sprint("passwd, users file ", i), secretPassword, []string{"passwd", "--users", file, "bob", "--room=garage"}, exitUsage})
	}
	for _, c := range commands {
		code, stdout, stderr := typed(t, c.input, c.args...)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, code, c.code, stderr)
		}
		if form := found(stdout+stderr, marker); form != "" {
			t.Errorf("%s shows a secret, as %q:\n%s%s", c.name, form, stdout, stderr)
		}
	}
	_, token, _ := typed(t, "", "token", "--jwt-key", key, "--name=alice", "--room=garage")
	_, password, stderr := typed(t, "", "passwd", "--users", users, "alice", "--generate")
	if token = strings.TrimSpace(token); strings.Count(token, ".") != 2 {
		t.Errorf("the token is %s", token)
	}
	if password = strings.TrimSpace(password); password == "" || found(stderr, password) != "" {
		t.Errorf("the password is shown twice: %s", stderr)
	}
	content, err := os.ReadFile(users)
	if err != nil || found(string(content), password) != "" {
		t.Errorf("the password stands in the file: %v", err)
	}
}
