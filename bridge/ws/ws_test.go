package ws_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/topics"
)

func TestTwoClientsExchangeACallInOrderByteForByte(t *testing.T) {
	h := open(t, nil)
	alice, cam := h.join(t, "alice"), h.join(t, "cam1")
	alice.want(`"type":"presence"`, `"peer":"cam1"`)

	said := []string{`{"type":"offer","session":"k3","sdp":"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n` + strings.Repeat(`a=x\r\n`, 2000) + `"}`}
	for i := range 20 {
		said = append(said, fmt.Sprintf(`{ "type":"candidate","session":"k3", "candidate":"candidate:%d \u00e9€","sdpMLineIndex":1.0e0 ,"x":{"to":[]}}`, i))
	}
	said = append(said, `{"type":"candidate","session":"k3","candidate":""}`, `{"type":"bye","session":"k3","reason":"hangup"}`)

	call := func(from, to *client, src, dst string) {
		t.Helper()
		for i, m := range said {
			routed := strings.Replace(m, `"type"`, fmt.Sprintf(`"to":%q,"id":%d,"type"`, dst, i), 1)
			from.send(routed)
		}
		for _, m := range said {
			want := strings.Replace(m, `"type"`, `"room":"garage","from":"`+src+`","type"`, 1)
			if got := to.next(); got != want {
				t.Fatalf("got %.200s\nwant %.200s", got, want)
			}
		}
		for i := range said {
			from.want(fmt.Sprintf(`{"type":"ok","id":%d}`, i))
		}
	}
	call(alice, cam, "alice", "cam1")
	call(cam, alice, "cam1", "alice")
}

func TestCredentialsComeFromTheRequestOrTheJoin(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass:word"))
	for name, c := range map[string]struct {
		header, query, token string
		want                 topics.Credentials
	}{
		"none":                             {want: topics.Credentials{}},
		"bearer":                           {header: "Bearer abc", want: topics.Credentials{Token: "abc"}},
		"bearer in other case":             {header: "bearer  abc ", want: topics.Credentials{Token: "abc"}},
		"basic":                            {header: basic, want: topics.Credentials{Username: "user", Password: "pass:word"}},
		"query":                            {query: "?access_token=a%2Bb", want: topics.Credentials{Token: "a+b"}},
		"join":                             {token: "jkl", want: topics.Credentials{Token: "jkl"}},
		"the header goes before the query": {header: "Bearer abc", query: "?access_token=q", want: topics.Credentials{Token: "abc"}},
		"the join goes before the header":  {header: "Bearer abc", token: "jkl", want: topics.Credentials{Token: "jkl"}},
		"other schemes are not looked at":  {header: "Digest x", query: "?access_token=q", want: topics.Credentials{Token: "q"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, nil)
			header := http.Header{}
			if c.header != "" {
				header.Set("Authorization", c.header)
			}
			conn := h.dialWith(t, c.query, header)
			conn.send(fmt.Sprintf(`{"type":"join","room":"garage","peer":"alice","token":%q}`, c.token))
			conn.want(`"type":"joined"`)
			got := h.shown[0]
			if !got.Remote.IsLoopback() || got.Name != "alice" {
				t.Errorf("it was shown %+v", got)
			}
			if got.Token != c.want.Token || got.Username != c.want.Username || got.Password != c.want.Password {
				t.Errorf("it was shown %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestStrangersOfAForeignOriginDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		defer h.Close()
		ask := func() {
			r := httptest.NewRequest(http.MethodGet, "/ws", nil)
			r.Header.Set("Origin", "https://evil.example")
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		for range 100 {
			ask()
		}
		time.Sleep(time.Minute) // fake time
		ask()
		log := h.log.String()
		if n := strings.Count(log, "\n"); n != 6 || strings.Count(log, "https://evil.example is not allowed") != n || !strings.Contains(log, "left_out=95\n") {
			t.Errorf("%d lines of 101 requests: %.2000s", n, log)
		}
	})
}

func TestClientThatSaysAgainWhatItHearsIsNotToldOfItForEver(t *testing.T) {
	for when, c := range map[string]func(*testing.T, *house) *client{
		"before a join": func(t *testing.T, h *house) *client { return h.dial(t) },
		"in a room":     func(t *testing.T, h *house) *client { return h.join(t, "alice") },
	} {
		t.Run(when, func(t *testing.T) {
			c := c(t, open(t, nil))
			c.send(`{"type":"candidate","id":7}`)
			c.send(c.want(`"type":"error"`, `"id":7`, `"about":"candidate"`))
			c.send(c.want(`"type":"error"`, `"id":7`, `"about":"error"`, "this is said once"))
			c.send(`{"type":"error","session":1}`)
			c.send(`{"type":"error","to":"nobody","code":480}`)
			c.send(`{"type":"ping"}`)
			c.want(`"type":"pong"`) // and nothing before
			c.send(`{"type":"candidate"}`)
			c.want(`"type":"error"`, `"about":"candidate"`)
		})
	}
}

func TestFloodOfErrorsIsCutOffLikeAnyOther(t *testing.T) {
	onFakeTime(t, func(c *ws.Config) { c.Frames = 10 }, func(t *testing.T, h *house) {
		c := h.join(t, "alice")
		go func() {
			for c.WriteMessage(websocket.TextMessage, []byte(`{"type":"error"}`)) == nil {
			}
		}()
		c.closed(topics.RateLimited.Close())
	})
}

func TestAForeignOriginIsRefused(t *testing.T) {
	h := open(t, func(c *ws.Config) { c.Origins = bridge.Origins{Allowed: []string{"https://good.example"}} })
	why := h.refused(t, http.StatusForbidden, http.Header{"Origin": {"https://evil.example"}})
	if !strings.Contains(why, "https://evil.example") {
		t.Errorf("the refusal says %q", why)
	}
	h.dialWith(t, "", http.Header{"Origin": {"https://good.example"}}).join("alice")
}

func TestARequestThatIsNoUpgradeIsRefused(t *testing.T) {
	h := open(t, nil)
	r, err := http.Get("http" + strings.TrimPrefix(h.url, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusBadRequest || r.Header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("the answer is %s %v", r.Status, r.Header)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAFrameThatIsNoJSONIsAnErrorAndTheConnectionLives(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	for _, frame := range []string{"", "nonsense", "[1]", "\"text\"", "{\"type\":\"msg\",\"data\":\"\xff\"}", `{"type":"msg"} {}`} {
		alice.send(frame)
		alice.want(`"type":"error"`, `"code":400`)
	}
	alice.send(`{"type":"ping"}`)
	alice.want(`{"type":"pong"}`)
}

func TestABinaryFrameEndsTheConnectionWith4501(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	if err := alice.WriteMessage(websocket.BinaryMessage, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if why := alice.closed(4501); !strings.Contains(why, "binary") {
		t.Errorf("the reason is %q", why)
	}
}

func TestAFrameBeyondTheLimitIs413WithItsIDAndTheConnectionLives(t *testing.T) {
	h := open(t, func(c *ws.Config) { c.MaxMessage = 10000 })
	alice := h.join(t, "alice")
	frame := func(id, size int) string {
		head := fmt.Sprintf(`{"type":"msg","id":%d,"to":"_","data":"`, id)
		return head + strings.Repeat("é", (size-len(head)-2)/2) + strings.Repeat("x", (size-len(head)-2)%2) + `"}`
	}
	alice.send(frame(1, 10000))
	alice.want(`"id":1`, `"code":400`) // the server takes no msg, but it was read
	alice.send(frame(2, 10001))
	alice.want(`"id":2`, `"code":413`, `"reason":"too-large"`, `"to":"_"`, `"about":"msg"`)
	alice.send(frame(3, 39999))
	alice.want(`"id":3`, `"code":413`)
	alice.send(`{"type":"ping","id":4}`)
	alice.want(`{"type":"pong"}`)
	alice.want(`{"type":"ok","id":4}`)
}

func TestAFrameFarBeyondTheLimitEndsTheConnectionWith4501(t *testing.T) {
	h := open(t, func(c *ws.Config) { c.MaxMessage = 10000 })
	alice := h.join(t, "alice")
	alice.send(strings.Repeat("x", 50000))
	if why := alice.closed(4501); !strings.Contains(why, "10000 bytes") {
		t.Errorf("the reason is %q", why)
	}
}

func TestALongFrameBeforeTheFirstJoinEndsTheConnectionWith4510(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	c.send(`{"type":"join","id":1,"token":"` + strings.Repeat("x", 8<<10) + `"}`)
	c.want(`"id":1`, `"code":413`)
	if why := c.closed(4510); !strings.Contains(why, "8192 bytes") {
		t.Errorf("the reason is %q", why)
	}
}

func TestAWrongTokenEndsTheConnectionWith4510AndWords(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	c.send(`{"type":"join","id":1,"room":"garage","token":"wrong"}`)
	c.want(`"id":1`, `"code":401`, `"about":"join"`)
	if why := c.closed(4510); why != "the token is wrong" {
		t.Errorf("the reason is %q", why)
	}
}

func TestAnotherConnectionOfTheSameIdentityEndsTheFirstWith4511(t *testing.T) {
	h := open(t, nil)
	old, bob := h.join(t, "alice"), h.join(t, "bob")
	old.want(`"peer":"bob"`)
	fresh := h.join(t, "alice")
	old.want(`"room":"garage"`, `"code":409`, `"reason":"replaced"`)
	old.closed(4511)
	bob.send(`{"type":"msg","to":"alice"}`)
	fresh.want(`"from":"bob"`)
}

func TestAClientThatBreaksTheProtocolIsClosedWith1002(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	// An unmasked text frame (RFC 6455, 5.1).
	if _, err := alice.NetConn().Write([]byte{0x81, 2, '{', '}'}); err != nil {
		t.Fatal(err)
	}
	alice.closed(websocket.CloseProtocolError)
}

func TestADrainTellsClientsToGoAndClosesThem(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	drained := make(chan error)
	go func() { drained <- h.Drain(t.Context()) }()
	alice.want(`{"type":"goaway","reason":"shutdown","in":`)
	h.refused(t, http.StatusServiceUnavailable, nil)
	alice.closed(4001)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	h.refused(t, http.StatusServiceUnavailable, nil)
}

func TestADrainThatHasNoTimeLeftClosesEverything(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	drained := make(chan error)
	go func() { drained <- h.Drain(ctx) }()
	if why := alice.closed(4001); !strings.Contains(why, "going away") {
		t.Errorf("the reason is %q", why)
	}
	if err := <-drained; err != context.Canceled {
		t.Errorf("drain: %v", err)
	}
}

func TestCloseIsIdempotentAndEndsConnectionsWith4001(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	var both sync.WaitGroup
	both.Go(h.Close)
	both.Go(h.Close)
	alice.closed(4001)
	both.Wait()
	h.Close()
}

func TestTwoHundredConnectionsLeaveNothingBehind(t *testing.T) {
	h := open(t, nil) // goleak, in TestMain, looks for goroutines
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			c := h.join(t, fmt.Sprintf("peer%d", i))
			c.send(`{"type":"msg","data":"hi"}`)
			if i%2 == 0 {
				c.Close()
				return
			}
			c.send(`{"type":"ping","id":"end"}`)
			c.skipTo(`{"type":"ok","id":"end"}`)
			if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")); err != nil {
				t.Error(err)
			}
			c.closed(1000)
		})
	}
	all.Wait()
	if err := h.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheLogTellsOfJoinAndEndAndNothingSecret(t *testing.T) {
	h := open(t, nil)
	c := h.dialWith(t, "?access_token=hunter2-query", http.Header{"Authorization": {"Bearer hunter2-header"}})
	c.send(`{"type":"join","room":"garage","peer":"alice","token":"hunter2-join","presence":{"name":"hunter2-presence"}}`)
	c.want(`"type":"joined"`)
	c.send(`{"type":"offer","session":"k3","sdp":"hunter2-sdp","to":"bob"}`)
	c.want(`"code":404`)
	if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "hunter2-reason")); err != nil {
		t.Fatal(err)
	}
	c.closed(1000)
	if err := h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := h.log.String()
	if strings.Contains(log, "hunter2") || strings.Count(log, "\n") != 2 {
		t.Errorf("the log is\n%s", log)
	}
	for _, part := range []string{"msg=joined conn=w1 peer=alice room=garage", "code=1000", `why="the client closed"`} {
		if !strings.Contains(log, part) {
			t.Errorf("the log has no %s:\n%s", part, log)
		}
	}
}

func TestTheLogTellsWhoseConnectionWasRefused(t *testing.T) {
	h := open(t, func(c *ws.Config) {
		c.Hold = func(r *http.Request) (func(), error) {
			if r.URL.Query().Get("full") != "" {
				return nil, topics.Errorf(topics.Unavailable, "full")
			}
			return func() {}, nil
		}
	})
	c := h.dial(t)
	c.send(`{"type":"join","room":"garage","peer":"alice","token":"wrong"}`)
	c.closed(4510)
	h.refused(t, 403, http.Header{"Origin": {"https://elsewhere.example"}})
	h.url += "/?full=1"
	h.refused(t, 503, nil)
	if err := h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := h.log.String()
	for _, part := range []string{`msg="websocket ended" conn="" peer="" code=4510`, "remote=127.0.0.1\n", `level=INFO msg="websocket refused" remote=127.0.0.1:`, `level=DEBUG msg="websocket refused" remote=127.0.0.1:`} {
		if !strings.Contains(log, part) {
			t.Errorf("the log has no %s:\n%s", part, log)
		}
	}
}

func TestAConfigTellsAllThatIsWrong(t *testing.T) {
	_, err := ws.New(ws.Config{Root: "a b", Write: -1, Ping: -1, Origins: bridge.Origins{Allowed: []string{"nonsense"}}})
	for _, part := range []string{"Connect", "Authenticate", "root", "Write", "Ping", "nonsense"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not tell of %s", err, part)
		}
	}
}

func TestAClientThatGoesOnSendingStillLearnsWhyItWasClosed(t *testing.T) {
	h := open(t, nil)
	alice := h.join(t, "alice")
	if err := alice.WriteMessage(websocket.BinaryMessage, nil); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := alice.WriteMessage(websocket.TextMessage, make([]byte, 20000)); err != nil {
			t.Fatalf("the connection was reset: %v", err)
		}
	}
	alice.closed(4501)
}

func TestALongReasonIsCut(t *testing.T) {
	h := open(t, func(c *ws.Config) {
		c.Authenticate = func(context.Context, topics.Credentials) (topics.Identity, error) {
			return topics.Identity{}, topics.Errorf(topics.Forbidden, "%s", strings.Repeat("é", 500))
		}
	})
	c := h.dial(t)
	c.send(`{"type":"join","room":"garage"}`)
	c.want(`"code":403`)
	if why := c.closed(4510); why != strings.Repeat("é", 61) {
		t.Errorf("the reason is %q", why)
	}
}

func TestNegativeLimitsAreNone(t *testing.T) {
	h := open(t, func(c *ws.Config) { c.MaxMessage, c.Queue, c.MaxRooms = -1, -1, -1 })
	alice := h.join(t, "alice")
	alice.send(`{"type":"msg","to":"_","id":1,"data":"` + strings.Repeat("x", 1<<20) + `"}`)
	alice.want(`"id":1`) // whatever the bus says
	for i := range 40 {
		alice.send(fmt.Sprintf(`{"type":"join","room":"r%d"}`, i))
		alice.want(`"type":"joined"`)
	}
}
