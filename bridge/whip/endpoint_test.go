package whip

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func TestOfferGoesToTheDeviceAndItsAnswerComesBack(t *testing.T) {
	for _, kind := range []string{"whep", "whip"} {
		h := build(t)
		cam := h.device(`{"online":true,"trickle":false}`)
		said := offer
		if kind == "whip" {
			said = strings.ReplaceAll(offer, "recvonly", "sendonly")
		}
		answered := h.post("/"+kind+"/garage/cam1", said)
		var seen topics.Delivery
		for seen = range cam.got {
			if seen.Kind == topics.Presence {
				break
			}
		}
		m := cam.next("offer")
		var got struct{ SDP string }
		if err := json.Unmarshal(m.Payload, &got); err != nil || got.SDP != said {
			t.Errorf("the device got %s, %v", m.Payload, err)
		}
		if !strings.HasPrefix(m.Src, "http-") || seen.Src != m.Src || !strings.Contains(string(seen.Payload), `"via":"http"`) || m.Session == "" {
			t.Errorf("%s called, %s joined with %s", m.Src, seen.Src, seen.Payload)
		}
		withCandidate := answer + "a=candidate:" + host1 + "\r\n"
		if err := cam.answer(m, withCandidate); err != nil {
			t.Fatal(err)
		}
		r := <-answered
		body := wants(t, r, 201)
		if want := strings.Replace(withCandidate, "m=video", "m=video", 1); !strings.HasPrefix(body, want[:200]) || !strings.Contains(body, "a=candidate:"+host1+"\r\n") {
			t.Errorf("the answer is %q", body)
		}
		for name, form := range map[string]string{
			"Content-Type":                  `^application/sdp$`,
			"Location":                      `^/` + kind + `/garage/cam1/[A-Z2-7]{26}$`, // 130 bits
			"Etag":                          `^"[A-Z2-7]{26}"$`,
			"Accept-Patch":                  `^application/trickle-ice-sdpfrag$`,
			"Link":                          `^<stun:stun\.example>; rel="ice-server"$`,
			"Cache-Control":                 `^no-store$`,
			"Access-Control-Allow-Origin":   `^\*$`,
			"Access-Control-Expose-Headers": `(?s)Access-Control-Allow-Methods.*ETag.*Link.*Location`,
		} {
			if v := r.Header.Values(name); len(v) != 1 || !regexp.MustCompile(form).MatchString(v[0]) {
				t.Errorf("%s: %q", name, v)
			}
		}
	}
}

func TestCloseEndsARequestWhoseBodyDoesNotCome(t *testing.T) {
	shown := make(chan struct{}, 1)
	h := build(t, func(c *Config) {
		c.Authenticate = func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
			shown <- struct{}{}
			return authenticate(ctx, c)
		}
	})
	server := httptest.NewServer(h)
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin := time.Now()
	fmt.Fprintf(c, "POST /whep/garage/cam1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %speer1\r\nContent-Type: %s\r\nContent-Length: 9\r\n\r\nv=0", token, typeSDP)
	<-shown
	h.Close()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, r, 503, "going away")
	if took := time.Since(begin); took >= h.cfg.Deadline {
		t.Errorf("after %v", took)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	long := strings.Repeat("a=x-filler:0123456789\r\n", 5000)
	for _, c := range []struct {
		name, method, path string
		header             []string
		body               string
		status             int
		says               string
		with               map[string]string // headers of the answer
	}{
		{name: "unknown peer", path: "/whep/garage/cam9", status: 404, says: "there is no cam9 in garage"},
		{name: "unknown room", path: "/whep/attic/cam1", status: 404, says: "there is no cam1 in attic"},
		{name: "offline", path: "/whep/garage/asleep", status: 409, says: `"offline"`, with: map[string]string{"Retry-After": "5"}},
		{name: "offers only", path: "/whep/garage/offerer", status: 422, says: "makes the offers itself"},
		{name: "receiver's max", path: "/whep/garage/small", status: 413, says: "100 bytes"},
		{name: "too long", body: offer + long, status: 413, says: "65536"},
		{name: "no token", header: []string{"Authorization", ""}, status: 401, with: map[string]string{"WWW-Authenticate": `Bearer realm="beckon"`}},
		{name: "wrong token", header: []string{"Authorization", "Bearer nonsense"}, status: 401},
		{name: "token in the query", path: "/whep/garage/cam9?access_token=" + token + "peer2", header: []string{"Authorization", ""}, status: 404},
		{name: "basic", path: "/whep/garage/cam9", header: []string{"Authorization", "Basic cGVlcjpodW50ZXIyLXBlZXIx"}, status: 404},
		{name: "observer", header: []string{"Authorization", "Bearer " + token + "observer1"}, status: 403, says: "may not call cam1"},
		{name: "viewer of another", path: "/whep/garage/small", header: []string{"Authorization", "Bearer " + token + "viewer1"}, status: 403},
		{name: "viewer of another room", path: "/whep/attic/cam1", header: []string{"Authorization", "Bearer " + token + "viewer1"}, status: 403},
		{name: "throttled", header: []string{"Authorization", "Bearer " + token + "slow"}, status: 429, with: map[string]string{"Retry-After": "7"}},
		{name: "server's trouble", header: []string{"Authorization", "Bearer " + token + "broken"}, status: 500, says: "its log says more"},
		{name: "type", header: []string{"Content-Type", "application/json"}, status: 415, with: map[string]string{"Accept-Post": typeSDP, "Accept": typeSDP}},
		{name: "no type", header: []string{"Content-Type", ""}, status: 415},
		{name: "not SDP", body: "hello", status: 400, says: "hello"},
		{name: "empty", body: "\r\n", status: 400, says: "no line v=0"},
		{name: "JSON", body: `{"type":"offer"}`, status: 400},
		{name: "broken line", body: offer + "nonsense\r\n", status: 400, says: "nonsense"},
		{name: "not UTF-8", body: offer + "a=\xff\r\n", status: 400, says: "UTF-8"},
		{name: "no media", body: "v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\n", status: 422, says: "no media"},
		{name: "many media", body: offer + strings.Repeat("m=audio 9 RTP/AVP 0\r\n", 255), status: 400, says: "256"},
		{name: "no ICE", body: strings.ReplaceAll(offer, "a=ice-pwd", "a=x-pwd"), status: 422, says: "a=ice-pwd"},
		{name: "no DTLS", body: strings.ReplaceAll(offer, "a=fingerprint", "a=x"), status: 422, says: "a=fingerprint"},
		{name: "whep that sends", body: strings.ReplaceAll(offer, "recvonly", "sendonly"), status: 422, says: "/whip/"},
		{name: "whip that receives", path: "/whip/garage/cam1", status: 422, says: "/whep/"},
		{name: "bad room", path: "/whep/gar%20age/cam1", status: 400, says: "room"},
		{name: "bad peer", path: "/whep/garage/_", status: 400, says: "peer"},
		{name: "no peer", path: "/whep/garage", status: 404},
		{name: "slash at the end", path: "/whep/garage/cam1/", method: "DELETE", status: 404},
		{name: "too deep", path: "/whep/garage/cam1/a/b", status: 404},
		{name: "GET", method: "GET", status: 405, with: map[string]string{"Allow": "OPTIONS, POST"}},
		{name: "HEAD", method: "HEAD", status: 405, with: map[string]string{"Allow": "OPTIONS, POST"}},
		{name: "PATCH", method: "PATCH", status: 405, with: map[string]string{"Allow": "OPTIONS, POST"}},
		{name: "DELETE", method: "DELETE", status: 405, with: map[string]string{"Allow": "OPTIONS, POST"}},
		{name: "GET a session", method: "GET", path: "/whep/garage/cam1/x", status: 405, with: map[string]string{"Allow": "OPTIONS, PATCH, DELETE"}},
		{name: "POST to a session", path: "/whep/garage/cam1/x", status: 405},
		{name: "PATCH no session", method: "PATCH", path: "/whep/garage/cam1/x", status: 404},
		{name: "DELETE no session", method: "DELETE", path: "/whep/garage/cam1/x", status: 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := build(t)
			cam := h.device(trickles)
			h.deviceOf("small", `{"online":true,"max":100}`)
			h.deviceOf("offerer", `{"online":true,"offers":true}`)
			h.deviceOf("asleep", trickles).bus.Close(true)
			if c.method == "" {
				c.method = "POST"
			}
			if c.path == "" {
				c.path = "/whep/garage/cam1"
			}
			if c.body == "" && c.method == "POST" {
				c.body = offer
			}
			r := h.do(c.method, c.path, c.body, c.header...)
			wants(t, r, c.status, c.says)
			for name, want := range c.with {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if got := r.Header.Get("Access-Control-Allow-Origin"); got != "*" {
				t.Errorf("a page cannot read it: %q", got)
			}
			for len(cam.got) > 0 {
				if m := <-cam.got; m.Kind == topics.Direct && m.Src != topics.Server {
					t.Errorf("cam1 got %s", m.Payload)
				}
			}
			if n := h.Sessions(); n != 0 {
				t.Errorf("%d sessions are open", n)
			}
		})
	}
}

func TestNamesThatAreNoneReachNobody(t *testing.T) {
	h := build(t, func(c *Config) { c.Joins = -1 })
	cam := h.device(trickles)
	for _, name := range []string{
		"", "_", "+", "#", "$SYS", "a/b", "../garage", ".", "..", "*", ">", "cam1\x00", "cam1 ", " cam1", "cam1%2f", "cäm1", "cam1\u200b",
		"-cam1", ".cam1", "cam1\n", strings.Repeat("a", 65), "a:b", "a\\b", "a?b", "%63am1",
	} {
		for _, path := range []string{"/whep/garage/" + url.PathEscape(name), "/whip/" + url.PathEscape(name) + "/cam1", "/whep/garage/" + url.PathEscape(name) + "/KEY"} {
			for _, method := range []string{"POST", "PATCH", "DELETE"} {
				if r := h.do(method, path, offer); r.StatusCode != 400 && r.StatusCode != 404 && r.StatusCode != 405 {
					t.Errorf("%s %s: status %d", method, path, r.StatusCode)
				}
			}
		}
	}
	for len(cam.got) > 0 {
		if m := <-cam.got; m.Src != topics.Server {
			t.Errorf("cam1 got %s of %s", m.Payload, m.Src)
		}
	}
}

// TestAnswerWaitsForCandidatesAsLongAsItMust: what the device says, when, and when
// and with what the client is answered.
func TestAnswerWaitsForCandidatesAsLongAsItMust(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		at   time.Duration
		says string // "answer" and lines that it has more, a candidate, or "" for their end
	}
	options := strings.Replace(answer, "a=group", "a=ice-options:trickle\r\na=group", 1)
	for _, c := range []struct {
		name, presence, sdp string
		steps               []step
		after               time.Duration
		candidates          []string
		end                 bool
	}{
		{"end of candidates", trickles, answer, []step{{0, "answer"}, {10 * ms, host1}, {20 * ms, host2}, {30 * ms, ""}}, 30 * ms, []string{host1, host2}, true},
		{"before the answer", trickles, answer, []step{{0, host1}, {10 * ms, ""}, {50 * ms, "answer"}}, 50 * ms, []string{host1}, true},
		{"quiet", trickles, answer, []step{{0, "answer"}, {100 * ms, host1}, {350 * ms, host2}}, 650 * ms, []string{host1, host2}, false},
		{"quiet counts from the answer", trickles, answer, []step{{0, host1}, {500 * ms, "answer"}}, 800 * ms, []string{host1}, false},
		{"never quiet", trickles, answer, []step{{0, "answer"}, {200 * ms, host1}, {450 * ms, host1}, {700 * ms, host1}, {950 * ms, host1}, {1200 * ms, host1}, {1450 * ms, host2}}, 1500 * ms, []string{host1, host2}, false},
		{"none at all", trickles, answer, []step{{0, "answer"}}, 1500 * ms, nil, false},
		{"end in the answer", trickles, answer + "a=candidate:" + host1 + "\r\na=end-of-candidates\r\n", []step{{0, "answer"}}, 0, []string{host1}, true},
		{"does not trickle", `{"online":true,"trickle":false}`, answer + "a=candidate:" + host1 + "\r\n", []step{{0, "answer"}}, 0, []string{host1}, true},
		{"says nothing, has candidates", `{"online":true}`, answer + "a=candidate:" + host1 + "\r\n", []step{{0, "answer"}}, 0, []string{host1}, true},
		{"says nothing, ice-options do", `{"online":true}`, options + "a=candidate:" + host1 + "\r\n", []step{{0, "answer"}, {100 * ms, host2}}, 400 * ms, []string{host2, host1}, false},
		{"twice the same", trickles, answer + "a=candidate:" + host1 + "\r\n", []step{{0, "answer"}, {0, host1 + " generation 0 ufrag Dev1"}, {1 * ms, "candidate:" + host1}, {2 * ms, ""}}, 2 * ms, []string{host1}, true},
		{"of another ICE", trickles, answer, []step{{0, host1 + " ufrag Old0"}, {0, "answer"}, {5 * ms, srflx}, {6 * ms, ""}}, 6 * ms, []string{srflx}, true},
		{"no candidates", trickles, answer, []step{{0, "answer"}, {1 * ms, "garbage"}, {2 * ms, host1 + `\r\na=x:y`}, {3 * ms, ""}}, 3 * ms, nil, false},
		{"at the deadline", trickles, answer, []step{{6900 * ms, "answer"}}, 7000 * ms, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := build(t)
				cam := h.device(c.presence)
				begin := time.Now()
				answered := h.post("/whep/garage/cam1", offer)
				m := cam.next("offer")
				go func() {
					for _, s := range c.steps {
						time.Sleep(time.Until(begin.Add(s.at))) // fake time
						var err error
						switch {
						case s.says == "answer":
							err = cam.answer(m, c.sdp)
						case strings.Contains(s.says, `\r`):
							err = cam.say(m, `{"type":"candidate","session":"","candidate":"%s"}`, s.says)
						default:
							err = cam.candidate(m, s.says)
						}
						if err != nil {
							t.Errorf("%s: %v", s.says, err)
						}
					}
				}()
				body := wants(t, <-answered, 201)
				if took := time.Since(begin); took != c.after {
					t.Errorf("answered after %v, want %v", took, c.after)
				}
				var got []string
				for line := range strings.Lines(body) {
					if text, ok := strings.CutPrefix(line, "a=candidate:"); ok {
						got = append(got, strings.TrimSpace(text))
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(c.candidates) {
					t.Errorf("it has the candidates %q, want %q\n%s", got, c.candidates, body)
				}
				if end := strings.Contains(body, "\r\na=end-of-candidates\r\n"); end != c.end {
					t.Errorf("it says that they are all: %v", end)
				}
				if strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", ""), "\n", "!") != strings.ReplaceAll(body, "\r\n", "") {
					t.Errorf("bare line feeds in %q", body)
				}
			})
		})
	}
}

func TestConnectionCountsAsNotAuthenticatedWhileItsCredentialsAreLookedAt(t *testing.T) {
	var held atomic.Int32
	full := false
	h := build(t, func(c *Config) {
		c.Hold = func(*http.Request) (func(), error) {
			if full {
				return nil, topics.Errorf(topics.Unavailable, "too many")
			}
			held.Add(1)
			return func() { held.Add(-1) }, nil
		}
		c.Authenticate = func(ctx context.Context, shown topics.Credentials) (topics.Identity, error) {
			if n := held.Load(); n != 1 {
				t.Errorf("%d count while one is authenticated", n)
			}
			return authenticate(ctx, shown)
		}
	})
	cam := h.device(trickles)
	_, r := h.opened(cam)
	url := r.Header.Get("Location")
	wants(t, h.do("POST", "/whep/garage/cam1", offer, "Authorization", "Bearer wrong"), 401)
	wants(t, h.do("DELETE", url, "", "Authorization", "Bearer "+token+"viewer1"), 403)
	if n := held.Load(); n != 0 {
		t.Errorf("%d count still", n)
	}
	full = true
	wants(t, h.do("POST", "/whep/garage/cam1", offer), 503, "too many")
	wants(t, h.do("DELETE", url, "", "Authorization", "Bearer "+token+"viewer1"), 503, "too many")
	wants(t, h.do("DELETE", url, ""), 200)
}

func TestCallThatFailsIsInTheLogWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		h.device(trickles)
		h.deviceOf("offerer", `{"online":true,"offers":true}`)
		h.deviceOf("asleep", trickles).bus.Close(true)
		for device, want := range map[string][]string{
			"cam1":    {"status=504", "did not answer in time"},
			"nobody":  {"status=404", "there is no nobody in garage"},
			"offerer": {"status=422", "makes the offers itself"},
			"asleep":  {"status=409", "offline"},
		} {
			before := h.log.String()
			h.do("POST", "/whep/garage/"+device, offer)
			said := strings.TrimPrefix(h.log.String(), before)
			for _, words := range append(want, "call failed", "room=garage", "with="+device, "account=peer1", "session=", "via=whep") {
				if !strings.Contains(said, words) {
					t.Errorf("%s: no %s in the log:\n%s", device, words, said)
				}
			}
			if n := strings.Count(said, "call failed"); n != 1 {
				t.Errorf("%s: %d lines", device, n)
			}
		}
		before := h.log.String()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "POST", "/whep/garage/cam1", strings.NewReader(offer))
		r.Header.Set("Content-Type", typeSDP)
		r.Header.Set("Authorization", "Bearer "+token+"peer1")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if said := strings.TrimPrefix(h.log.String(), before); !strings.Contains(said, "its client went before") || strings.Contains(said, "status=") {
			t.Errorf("the log has %s", said)
		}
	})
}

func TestDeviceThatDoesNotAnswerIs504AndHearsBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		cam := h.device(trickles)
		begin := time.Now()
		r := h.do("POST", "/whep/garage/cam1", offer)
		wants(t, r, 504, "did not answer")
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("after %v", took)
		}
		m := cam.next("offer")
		if bye := cam.next("bye"); bye.Session != m.Session || !strings.Contains(string(bye.Payload), "timeout") {
			t.Errorf("it heard %s", bye.Payload)
		}
		if err := cam.answer(m, answer); topics.AsError(err).Code != topics.NotFound {
			t.Errorf("its late answer: %v", err)
		}
	})
}

func TestClientThatGoesWhileItWaitsEndsTheCall(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	server := httptest.NewServer(h)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", server.URL+"/whep/garage/cam1", strings.NewReader(offer))
	r.Header.Set("Content-Type", typeSDP)
	r.Header.Set("Authorization", "Bearer "+token+"peer1")
	gone := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		gone <- err
	}()
	m := cam.next("offer")
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if bye := cam.next("bye"); bye.Session != m.Session || !strings.Contains(string(bye.Payload), "hangup") {
		t.Errorf("it heard %s", bye.Payload)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestWhatADeviceSaysInsteadOfAnAnswerIsTold(t *testing.T) {
	for _, c := range []struct {
		says, about string
		status      int
		retry       bool
	}{
		{`{"type":"bye","session":"","reason":"busy"}`, "is busy", 503, true},
		{`{"type":"bye","session":"","reason":"failed"}`, "hung up", 422, false},
		{`{"type":"bye","session":"","reason":"gone"}`, "has gone", 409, true},
		{`{"type":"bye","session":""}`, "hung up", 422, false},
		{`{"type":"answer","session":"","sdp":"nonsense"}`, "no SDP", 422, false},
		{`{"type":"answer","session":"","sdp":7}`, "no SDP", 422, false},
		{`{"type":"answer","session":"","sdp":"v=0\r\n"}`, "no SDP", 422, false},
	} {
		t.Run(c.says, func(t *testing.T) {
			h := build(t)
			cam := h.device(trickles)
			answered := h.post("/whep/garage/cam1", offer)
			m := cam.next("offer")
			if err := cam.say(m, "%s", c.says); err != nil {
				t.Fatal(err)
			}
			r := <-answered
			wants(t, r, c.status, c.about)
			if retry := r.Header.Get("Retry-After") != ""; retry != c.retry {
				t.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
			}
			if strings.Contains(c.says, "answer") {
				cam.next("bye")
			}
		})
	}
}

func TestDeviceThatLeavesWhileItIsCalledIs409(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	answered := h.post("/whep/garage/cam1", offer)
	cam.next("offer")
	cam.bus.Close(true)
	wants(t, <-answered, 409, "has gone")
}

func TestMessageThatAnHTTPClientCannotHearIsRefused(t *testing.T) {
	h := build(t)
	cam, other := h.device(trickles), h.deviceOf("bob", trickles)
	m, _ := h.opened(cam)
	for _, says := range []string{`{"type":"msg","data":1}`, `{"type":"offer","session":"","sdp":""}`, `{"type":"x-zoom"}`, `{"type":"answer","session":"other","sdp":""}`} {
		if err := cam.say(m, "%s", says); topics.AsError(err).Code != topics.Busy {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := other.say(m, `{"type":"bye","session":""}`); topics.AsError(err).Code != topics.Busy {
		t.Errorf("another peer's bye: %v", err)
	}
	if err := cam.candidate(m, host1); err != nil { // it came too late for the answer
		t.Error(err)
	}
	if h.Sessions() != 1 {
		t.Error("the session has ended")
	}
}

func TestDrainedDoorTakesNoMoreAndTheOpenOnesGoOn(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	m, opened := h.opened(cam)
	waiting := h.post("/whep/garage/cam1", offer)
	second := cam.next("offer")
	h.Drain()
	r := h.do("POST", "/whep/garage/cam1", offer)
	wants(t, r, 503)
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if err := cam.answer(second, answer+"a=end-of-candidates\r\n"); err != nil {
		t.Fatal(err)
	}
	wants(t, <-waiting, 201)
	wants(t, h.do("PATCH", opened.Header.Get("Location"), lines("m=audio 9 RTP/AVP 0", "a=mid:0", "a=candidate:"+host1)), 204)
	if c := cam.next("candidate"); c.Session != m.Session {
		t.Errorf("it got %s", c.Payload)
	}
	h.Close()
	wants(t, h.do("DELETE", opened.Header.Get("Location"), ""), 404)
	for len(cam.got) > 0 {
		if m := <-cam.got; m.Type == topics.TypeBye && !strings.Contains(string(m.Payload), "gone") { // the bus in memory has no drain
			t.Errorf("it heard %s", m.Payload)
		}
	}
}

func TestRequestThatWaitsEndsWithTheDoor(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	answered := h.post("/whep/garage/cam1", offer)
	cam.next("offer")
	h.Close()
	r := <-answered
	wants(t, r, 503, "going away")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for len(cam.got) > 0 {
		if m := <-cam.got; m.Type == topics.TypeBye && !strings.Contains(string(m.Payload), "gone") { // the bus in memory has no drain
			t.Errorf("it heard %s", m.Payload)
		}
	}
}

func TestPagesOfAnySiteMayCallButInDevOnlyLocalOnes(t *testing.T) {
	for _, c := range []struct {
		dev          bool
		host, origin string
		status       int
		allowed      string
	}{
		{false, "cam.example", "https://player.example", 204, "*"},
		{false, "cam.example", "null", 204, "*"},
		{false, "cam.example", "", 204, "*"},
		{true, "127.0.0.1:8080", "http://localhost:5173", 204, "http://localhost:5173"},
		{true, "127.0.0.1:8080", "", 204, ""},
		{true, "127.0.0.1:8080", "https://player.example", 403, ""},
		{true, "evil.example:8080", "", 403, ""},
		{true, "127.0.0.1:8080", "null", 403, ""},
	} {
		h := build(t, func(cfg *Config) { cfg.Origins = bridge.Origins{Dev: c.dev} })
		for _, path := range []string{"/whep/garage/cam1", "/whip/garage/cam1/KEY"} {
			r := httptest.NewRequest("OPTIONS", path, nil)
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			r.Header.Set("Access-Control-Request-Method", "PATCH")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := w.Result()
			if got.StatusCode != c.status || got.Header.Get("Access-Control-Allow-Origin") != c.allowed {
				t.Errorf("%+v: %d, %q", c, got.StatusCode, got.Header.Get("Access-Control-Allow-Origin"))
			}
			if got.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("it allows what a browser adds by itself")
			}
			if c.status != 204 {
				continue
			}
			for name, part := range map[string]string{
				"Access-Control-Allow-Methods": "PATCH", "Access-Control-Allow-Headers": "Authorization",
				"Accept-Post": typeSDP, "Accept-Patch": typeFragment, "Allow": "OPTIONS", "Access-Control-Expose-Headers": "Location",
			} {
				if !strings.Contains(got.Header.Get(name), part) {
					t.Errorf("%s is %q", name, got.Header.Get(name))
				}
			}
		}
	}
}

func TestNewReportsEveryMistakeAtOnce(t *testing.T) {
	_, err := New(Config{Deadline: -1, Root: "a/b/c", Origins: bridge.Origins{Allowed: []string{"*"}}})
	for _, part := range []string{"Connect", "Authenticate", "Deadline", "root", "wildcard"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("no %s in: %v", part, err)
		}
	}
}

func TestICEServersBecomeLinks(t *testing.T) {
	header := http.Header{}
	addLinks(header, []topics.ICEServer{
		{URLs: []string{"stun:a.example", "stun:b.example:3478"}},
		{URLs: []string{"turn:c.example?transport=udp"}, Username: `1790000000:http-"x\`, Credential: "hunter2=="},
	})
	want := []string{
		`<stun:a.example>; rel="ice-server"`, `<stun:b.example:3478>; rel="ice-server"`,
		`<turn:c.example?transport=udp>; rel="ice-server"; username="1790000000:http-\"x\\"; credential="hunter2=="; credential-type="password"`,
	}
	if got := header.Values("Link"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("the links are not as they should be")
	}
}
