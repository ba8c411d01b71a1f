package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/rest"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

const (
	rooms    = "/api/v1/rooms"
	garage   = "/api/v1/rooms/garage/peers"
	events   = garage + "/alice/events"
	messages = garage + "/alice/messages"
)

func TestEveryRequestHasItsAnswer(t *testing.T) {
	h := open(t, func(c *rest.Config) {
		c.MaxMessage = 100
		c.Origins = bridge.Origins{Allowed: []string{"https://app.example"}}
	})
	alice := h.listen("alice", "", "Authorization: Bearer alice")
	alice.joined()
	const isJSON, isAlice = "Content-Type: application/json", "Authorization: Bearer alice"
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		want               string // words of the body, or "Header: value"
	}{
		{"GET", rooms, "", nil, 200, `{"rooms":[{"room":"attic","peers":1},{"room":"garage","peers":3}]}`},
		{"HEAD", rooms, "", nil, 200, "Content-Type: application/json"},
		{"GET", garage, "", nil, 200, `{"peers":[{"peer":"cam1","presence":{"online":true,"name":"<b>"}}]}`},
		{"GET", garage, "", nil, 200, "Cache-Control: no-store"},
		{"GET", "/api/v1/rooms/cellar/peers", "", nil, 403, `"reason":"forbidden"`},
		{"GET", rooms, "", []string{"Authorization: Bearer wrong"}, 401, `WWW-Authenticate: Bearer realm="beckon"`},
		{"GET", rooms + "?access_token=wrong", "", nil, 401, `"reason":"unauthorized"`},
		{"GET", events, "", []string{"Authorization: Basic d3Jvbmc6aHVudGVyMg=="}, 401, "Content-Type: application/problem+json"},
		{"GET", rooms, "", []string{"Authorization: Bearer broken"}, 500, `"detail":"the server failed; its log says more"`},
		{"GET", events, "", []string{"Authorization: Bearer bob"}, 403, `this connection is bob and cannot be alice`},
		{"GET", garage + "/otto/events", "", []string{"Authorization: Bearer otto"}, 403, `"reason":"forbidden"`},
		{"GET", events + "?presence={", "", nil, 400, `must be a JSON object`},
		{"GET", events + `?presence={"online":false}`, "", nil, 400, `a join with \"online\":false is none`},
		{"GET", events + `?presence=7`, "", nil, 400, `\"presence\" must be an object`},
		{"HEAD", events, "", nil, 405, "Allow: OPTIONS, GET"},
		{"POST", events, "", nil, 405, `the method is not for this path`},
		{"DELETE", rooms, "", nil, 405, "Allow: GET, HEAD, OPTIONS"},
		{"GET", messages, "", nil, 405, "Allow: OPTIONS, POST"},
		{"OPTIONS", messages, "", nil, 204, "Access-Control-Allow-Methods: POST"},
		{"OPTIONS", events, "", []string{"Origin: https://app.example"}, 204, "Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID"},
		{"GET", "/api/v1/", "", nil, 404, `"reason":"not-found"`},
		{"GET", "/api/v1/rooms/garage", "", nil, 404, "there is nothing here"},
		{"GET", "/api/v1/rooms/gar%2Fage/peers", "", nil, 400, `"reason":"bad-request"`},
		{"GET", "/api/v1/rooms/a+b/peers", "", nil, 400, `"status":400`},
		{"GET", garage + "/_/events", "", nil, 400, `"reason":"bad-request"`},

		{"GET", rooms, "", []string{"Origin: https://app.example"}, 200, "Access-Control-Allow-Origin: https://app.example"},
		{"GET", rooms, "", []string{"Origin: https://evil.example"}, 403, "https://evil.example is not allowed"},
		{"GET", rooms, "", []string{"Origin: null"}, 403, `"reason":"forbidden"`},
		{"GET", events, "", []string{"Sec-Fetch-Site: cross-site"}, 403, "a page of another site"},
		{"GET", rooms, "", []string{"Sec-Fetch-Site: same-origin"}, 200, `"rooms"`},

		{"POST", messages, `{"type":"ice","to":"_"}`, []string{isAlice}, 415, "Accept-Post: application/json"},
		{"POST", messages, `{"type":"ice","to":"_"}`, []string{isAlice, "Content-Type: text/plain"}, 415, `"status":415`},
		{"POST", messages, `{"type":"ice","to":"_"}`, []string{isAlice, "Content-Type: Application/JSON; charset=utf-8"}, 202, `{"status":"accepted"}`},
		{"POST", messages, `{"type":"ice","to":"_","room":"garage","id":7}`, []string{isAlice, isJSON}, 202, `{"status":"accepted"}`},
		{"POST", messages, `{"type":"msg"}`, []string{isAlice, isJSON}, 202, `{"status":"accepted"}`},
		{"POST", messages, `{"type":"msg","room":"attic"}`, []string{isAlice, isJSON}, 400, `\"room\" is attic here`},
		{"POST", messages, `{"type":"msg","from":"bob"}`, []string{isAlice, isJSON}, 400, `leave it out`},
		{"POST", messages, `{"type":"msg"`, []string{isAlice, isJSON}, 400, `"reason":"bad-request"`},
		{"POST", messages, ``, []string{isAlice, isJSON}, 400, `"reason":"bad-request"`},
		{"POST", messages, `{"type":"leave"}`, []string{isAlice, isJSON}, 400, `"reason":"bad-request"`},
		{"POST", messages, `{"type":"presence","presence":{}}`, []string{isAlice, isJSON}, 400, `"reason":"bad-request"`},
		{"POST", messages, `{"type":"join","room":"garage"}`, []string{isAlice, isJSON}, 400, `"reason":"bad-request"`},
		{"POST", messages, `{"type":"msg","to":"nobody"}`, []string{isAlice, isJSON}, 404, `nobody is not known in garage`},
		{"POST", messages, `{"type":"msg","data":"` + strings.Repeat("x", 100) + `"}`, []string{isAlice, isJSON}, 413, `the limit of 100 bytes`},
		{"POST", messages, `{"type":"msg"}`, []string{isJSON, "Authorization: Bearer bob"}, 403, `these are the credentials of bob, who cannot speak as alice`},
		{"POST", messages, `{"type":"msg"}`, []string{isJSON, "Authorization: Bearer wrong"}, 401, `"reason":"unauthorized"`},
		{"POST", garage + "/bob/messages", `{"type":"msg"}`, []string{isJSON, "Authorization: Bearer bob"}, 403, `open .../events first`},
		{"POST", "/api/v1/rooms/attic/peers/alice/messages", `{"type":"msg"}`, []string{isJSON, isAlice}, 403, `alice is not in attic by this server`},
	} {
		response, body := h.ask(c.method, c.path, c.body, c.headers...)
		said := body
		if name, value, ok := strings.Cut(c.want, ": "); ok && !strings.Contains(c.want, `"status"`) && response.Header.Get(name) != "" {
			said, c.want = response.Header.Get(name), value
		}
		if response.StatusCode != c.status || !strings.Contains(said, c.want) {
			t.Errorf("%s %s %q %s: %s %v %s\nwant %d %s", c.method, c.path, c.headers, c.body, response.Status, response.Header, body, c.status, c.want)
		}
		if c.status >= 400 && c.method != "HEAD" && response.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: the error is %s", c.method, c.path, response.Header.Get("Content-Type"))
		}
	}
}

func TestStreamIsTheMembershipAndCarriesFrames(t *testing.T) {
	h := open(t, nil)
	alice := h.listen("alice", `?presence={"name":"Alice"}`)
	if j := alice.joined(); j.Peer != "alice" || len(j.Peers) != 0 || alice.last != j.Resume+".1" {
		t.Errorf("got %+v with the id %s", j, alice.last)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
	} {
		if got := alice.header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	bob := h.listen("bob", "?access_token=bob")
	key := bob.joined().Resume
	alice.hears(`"type":"presence"`, `"peer":"bob"`, `"online":true`, `"via":"http"`)
	if code := h.say("alice", `{"type":"offer","session":"k3","to":"bob","sdp":"v=0"}`); code != 202 {
		t.Fatal(code)
	}
	if e := bob.hears(); e.data != `{"room":"garage","from":"alice","type":"offer","session":"k3","sdp":"v=0"}` || e.id != key+".2" {
		t.Errorf("got %q", e)
	}
	h.say("bob", `{"type":"msg","data":1}`)
	alice.hears(`"from":"bob","all":true`)
	bob.cut()
	alice.hears(`"type":"bye"`, `"reason":"gone"`, `"from":"bob"`)
	alice.hears(`"code":480`, `"about":"offer"`) // it may not have arrived
	alice.hears(`"peer":"bob","presence":null`)
}

func TestLineEndsOfAMessageAreLinesOfItsEvent(t *testing.T) {
	h := open(t, nil)
	alice := h.listen("alice", "")
	alice.joined()
	bob := h.listen("bob", "")
	bob.joined()
	h.say("alice", "{\"type\":\"msg\",\r\n\t\"to\":\"bob\",\r\"data\":\n[1,\n\n2]}")
	var got struct{ Data []int }
	if e := bob.hears("\n"); json.Unmarshal([]byte(e.data), &got) != nil || len(got.Data) != 2 || strings.Contains(e.data, "\r") {
		t.Errorf("got %q", e.data)
	}
}

func TestWhoComesBackInTimeGetsWhatItMissedAndNobodySawItGo(t *testing.T) {
	for name, how := range map[string]func(h *house, id string) *listener{
		"header": func(h *house, id string) *listener {
			return h.listen("alice", "?lastEventId=older.1", "Last-Event-ID: "+id)
		},
		"query": func(h *house, id string) *listener { return h.listen("alice", "?lastEventId="+id) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, func(c *rest.Config) { c.Heartbeat = time.Hour })
			h.bus.Grace = time.Minute
			bob := h.listen("bob", "")
			bob.joined()
			alice := h.listen("alice", "")
			key := alice.joined().Resume
			bob.hears(`"peer":"alice"`)
			for i := range 4 { // of which she has got two
				h.say("bob", fmt.Sprintf(`{"type":"msg","to":"alice","data":%d}`, i))
			}
			alice.hears(`"data":0`)
			last := alice.hears(`"data":1`).id
			alice.cut()
			eventually(t, "the end of the stream", func() bool { return h.Streams() == 1 })
			if code := h.say("bob", `{"type":"msg","to":"alice","data":4}`); code != 202 {
				t.Errorf("what is said meanwhile gets %d", code)
			}
			h.say("bob", `{"type":"msg","data":5}`)
			back := how(h, last)
			j := back.joined()
			if j.Resumed == nil || !*j.Resumed || j.Seen != 3 || j.Resume != key || back.last != last {
				t.Errorf("got %+v with the id %s", j, back.last)
			}
			for i := 2; i <= 5; i++ {
				if e := back.hears(fmt.Sprintf(`"data":%d`, i)); e.id != fmt.Sprintf("%s.%d", key, i+2) {
					t.Errorf("%s has the id %s", e.data, e.id)
				}
			}
			h.say("alice", `{"type":"msg","to":"bob","data":"back"}`)
			bob.hears(`"data":"back"`)
		})
	}
}

func TestWhoComesBackWhileItsOldStreamSeemsToLiveGoesOnThere(t *testing.T) {
	h := open(t, nil)
	alice := h.listen("alice", "")
	alice.joined()
	for range 3 { // and again: a session that moved on is not one that was taken over
		next := h.listen("alice", "", "Last-Event-ID: "+alice.last)
		if j := next.joined(); j.Resumed == nil || !*j.Resumed {
			t.Fatalf("got %+v", j)
		}
		alice.ends()
		alice = next
	}
	if code := h.say("alice", `{"type":"ice","to":"_"}`); code != 202 {
		t.Error(code)
	}
	alice.hears(`"type":"ice"`)
}

func TestWhoComesBackTooLateStartsOver(t *testing.T) {
	h := open(t, nil)
	bob := h.listen("bob", "")
	bob.joined()
	alice := h.listen("alice", "")
	key := alice.joined().Resume
	bob.hears(`"peer":"alice"`)
	alice.cut()
	bob.hears(`"peer":"alice","presence":null`)
	for _, id := range []string{alice.last, "garbage", "a.b.c", key + ".99", "." + key, `"\`} {
		back := h.listen("alice", "", "Last-Event-ID: "+id)
		if j := back.joined(); j.Resumed == nil || *j.Resumed || len(j.Peers) != 1 || back.last != j.Resume+".1" || j.Resume == key {
			t.Errorf("%q: got %+v with the id %s", id, j, back.last)
		}
		bob.hears(`"peer":"alice"`)
		back.cut()
		bob.hears(`"peer":"alice","presence":null`)
	}
}

func TestNobodyResumesTheSessionOfAnother(t *testing.T) {
	h := open(t, nil)
	alice := h.listen("alice", "")
	alice.joined()
	bob := h.listen("bob", "", "Last-Event-ID: "+alice.last)
	if j := bob.joined(); j.Peer != "bob" || j.Resumed == nil || *j.Resumed {
		t.Errorf("got %+v", j)
	}
	alice.hears(`"peer":"bob"`)
}

func TestWhoWasTakenOverIsToldAndDoesNotTakeOverInTurn(t *testing.T) {
	h := open(t, nil)
	first := h.listen("alice", "")
	first.joined()
	second := h.listen("alice", "")
	second.joined()
	first.hears(`"type":"error"`, `"reason":"replaced"`)
	first.ends()
	response, body := h.ask("GET", events, "", "Last-Event-ID: "+first.last)
	if response.StatusCode != http.StatusConflict || !strings.Contains(body, `"reason":"replaced"`) {
		t.Errorf("a browser that comes back by itself gets %s %s", response.Status, body)
	}
	h.say("alice", `{"type":"ice","to":"_"}`)
	second.hears(`"type":"ice"`)
}

func TestWhatWasWrittenAWhileAgoIsNotGivenToTheNextConnection(t *testing.T) {
	h := open(t, func(c *rest.Config) { c.Taken = time.Millisecond })
	h.bus.Grace = time.Minute
	bob := h.listen("bob", "")
	bob.joined()
	h.listen("alice", "").joined()
	h.say("bob", `{"type":"msg","to":"alice","data":"old"}`)
	eventually(t, "a connection that is not given it again", func() bool {
		next := h.listen("alice", "") // while the one before lives
		next.joined()
		h.say("bob", `{"type":"msg","to":"alice","data":"new"}`)
		return strings.Contains(next.hears(`"type":"msg"`).data, "new")
	})
}

func TestWhatWasWrittenJustNowIsGivenToTheNextConnection(t *testing.T) {
	h := open(t, func(c *rest.Config) { c.Taken = time.Hour })
	bob := h.listen("bob", "")
	bob.joined()
	h.listen("alice", "").joined()
	h.say("bob", `{"type":"msg","to":"alice","data":"old"}`)
	next := h.listen("alice", "")
	next.joined()
	next.hears(`"data":"old"`)
}

func TestStreamShowsThatItLives(t *testing.T) {
	h := open(t, func(c *rest.Config) { c.Heartbeat = 20 * time.Millisecond })
	alice := h.listen("alice", "")
	alice.joined()
	for range 6 { // which forgets what was written before, too
		select {
		case e := <-alice.events:
			if e.data != ":" {
				t.Errorf("got %q", e)
			}
		case <-time.After(patience):
			t.Fatal("no comment came")
		}
	}
	h.say("alice", `{"type":"ice","to":"_"}`)
	alice.hears(`"type":"ice"`)
}

func TestDrainTellsEveryStreamAndEndsIt(t *testing.T) {
	h := open(t, nil)
	alice := h.listen("alice", "")
	alice.joined()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Drain(ctx); err != nil {
		t.Error(err)
	}
	last := alice.last
	if e := alice.hears(`{"type":"goaway","reason":"shutdown","in":`); e.id != last {
		t.Errorf("it has the id %q", e.id)
	}
	alice.ends()
	response, body := h.ask("GET", events, "")
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("a new stream gets %s %s", response.Status, body)
	}
}

// An EventSource never comes back after any answer but 200.
func TestEventSourceThatComesBackWhileTheServerGoesIsToldToComeLater(t *testing.T) {
	h := open(t, nil)
	alice := h.listen("alice", "")
	alice.joined()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Drain(ctx); err != nil {
		t.Error(err)
	}
	response, body := h.ask("GET", events, "", "Accept: text/event-stream")
	var retry int
	if _, err := fmt.Sscanf(body, "retry: %d\n\ndata: {\"type\":\"goaway\",\"reason\":\"shutdown\",\"in\":", &retry); err != nil || retry < 1000 || retry > 20_000 {
		t.Errorf("it is told %q (%v)", body, err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" || !response.Close {
		t.Errorf("it gets %s %v", response.Status, response.Header)
	}
}

func TestSlowReaderIsCutAndItsSenderIsTold(t *testing.T) {
	threat.Row(t, 19, threat.HTTP)
	h := open(t, func(c *rest.Config) {
		c.Write, c.Queue = 300*time.Millisecond, 64<<10
	})
	bob := h.listen("bob", "")
	bob.joined()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", h.server.URL+events, nil)
	response, err := h.server.Client().Do(r) // and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	bob.hears(`"peer":"alice"`)
	big := `{"type":"msg","to":"alice","data":"` + strings.Repeat("x", 32<<10) + `"}`
	told := false
	eventually(t, "the end of its stream", func() bool {
		told = h.say("bob", big) == http.StatusServiceUnavailable || told
		return h.Streams() == 1
	})
	if !told {
		t.Error("its sender is not told")
	}
}

func TestManyCredentialsAreShownToAuthenticate(t *testing.T) {
	h := open(t, nil)
	for _, c := range []struct{ query, header, token, user string }{
		{"", "Authorization: bearer hunter2", "hunter2", ""},
		{"?access_token=hunter2", "", "hunter2", ""},
		{"?access_token=other", "Authorization: Bearer hunter2", "hunter2", ""},
		{"", "Authorization: Basic YWxpY2U6aHVudGVyMg==", "", "alice"},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{c.header}
		}
		h.ask("GET", rooms+c.query, "", headers...)
		h.mu.Lock()
		got := h.shown[len(h.shown)-1]
		h.mu.Unlock()
		if got.Token != c.token || got.Username != c.user || !got.Remote.IsLoopback() {
			t.Errorf("%+v: shown were the user %q and a token of %d bytes from %v", c.query, got.Username, len(got.Token), got.Remote)
		}
	}
}

func TestDoorKnowsThePeersThatHaveAStream(t *testing.T) {
	h := open(t, nil)
	h.listen("alice", "").joined()
	for request, want := range map[string]bool{
		"POST " + messages:                                true,
		"GET " + messages:                                 false,
		"POST " + events:                                  false,
		"GET " + events:                                   false,
		"POST " + garage + "/bob/messages":                false,
		"POST /api/v1/rooms/attic/peers/alice/messages":   false,
		"POST /api/v1/rooms/garage/x/alice/messages":      false,
		"POST /api/v1/rooms/garage%2Fx/alice/messages":    false,
		"POST /api/v1/rooms//garage/peers/alice/messages": false,
		"GET " + rooms:                                    false,
	} {
		method, path, _ := strings.Cut(request, " ")
		if h.Knows(httptest.NewRequest(method, path, nil)) != want {
			t.Errorf("%s: it is not %v", request, want)
		}
	}
}

func TestConfigTellsAllThatIsWrong(t *testing.T) {
	_, err := rest.New(rest.Config{Write: -1, Origins: bridge.Origins{Allowed: []string{"*"}}, Root: topics.Root("#")})
	for _, want := range []string{"Connect", "Authenticate", "Rooms", "Write", "wildcard", "root"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}
