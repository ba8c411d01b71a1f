package whip

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"

	"github.com/beckon-rtc/beckon/topics"
)

// frag is a fragment as players send it, of one candidate.
var frag = lines("a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "m=audio 9 RTP/AVP 0", "a=mid:0", "a=candidate:"+host1)

func TestFragmentBecomesCandidateMessages(t *testing.T) {
	c := func(text string, at int) string {
		return fmt.Sprintf(`{"type":"candidate","session":"S","candidate":"%s","sdpMid":"%d","sdpMLineIndex":%d,"usernameFragment":"EsAw"}`, text, at, at)
	}
	const end = `{"type":"candidate","session":"S","candidate":"","usernameFragment":"EsAw"}`
	for name, f := range map[string]struct {
		body string
		want []string
	}{
		"one":                    {frag, []string{c("candidate:"+host1, 0)}},
		"two sections":           {frag + lines("a=candidate:"+host2, "m=video 9 RTP/AVP 0", "a=mid:1", "a=candidate:"+srflx), []string{c("candidate:"+host1, 0), c("candidate:"+host2, 0), c("candidate:"+srflx, 1)}},
		"end of a section":       {frag + lines("a=end-of-candidates"), []string{c("candidate:"+host1, 0), c("", 0)}},
		"end of all":             {lines("a=end-of-candidates"), []string{end}},
		"before any section":     {lines("a=candidate:" + host1), []string{c("candidate:"+host1, 0)}},
		"name twice":             {strings.Replace(frag, "a=candidate:", "a=candidate:candidate:", 1), []string{c("candidate:"+host1, 0)}},
		"component 0":            {strings.Replace(frag, "1 1 udp", "1 0 udp", 1), []string{c("candidate:"+host1, 0)}},
		"address in brackets":    {strings.Replace(frag, "192.0.2.1", "[2001:db8::1]", 1), []string{c("candidate:"+strings.Replace(host1, "192.0.2.1", "2001:db8::1", 1), 0)}},
		"bare line feeds":        {strings.ReplaceAll(frag, "\r\n", "\n"), []string{c("candidate:"+host1, 0)}},
		"empty lines":            {"\r\n" + strings.ReplaceAll(frag, "\r\n", "\r\n\r\n"), []string{c("candidate:"+host1, 0)}},
		"no end of line":         {strings.TrimSpace(frag), []string{c("candidate:"+host1, 0)}},
		"wrong kind of media":    {lines("m=application 0 X 0", "a=mid:1", "a=candidate:"+host1), []string{c("candidate:"+host1, 1)}},
		"by place, without mid":  {lines("m=audio 9 RTP/AVP 0", "m=video 9 RTP/AVP 0", "a=candidate:"+host1), []string{c("candidate:"+host1, 1)}},
		"nothing but the ufrag":  {lines("a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1"), nil},
		"lines it does not know": {frag + lines("a=x-new:1", "b=AS:1"), []string{c("candidate:"+host1, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			cam := h.device(trickles)
			m, r := h.opened(cam)
			answered := h.do("PATCH", r.Header.Get("Location"), f.body)
			if body := wants(t, answered, 204); body != "" {
				t.Errorf("it says %s", body)
			}
			for _, want := range f.want {
				want = strings.Replace(want, `"S"`, `"`+m.Session+`"`, 1)
				if got := string(cam.next("candidate").Payload); got != want {
					t.Errorf("the device got %s\nwant %s", got, want)
				}
			}
			wants(t, h.do("DELETE", r.Header.Get("Location"), ""), 200)
			cam.next("bye") // and nothing before
		})
	}
}

func TestFragmentsThatAreRefused(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	_, r := h.opened(cam)
	url := r.Header.Get("Location")
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
		header []string
	}{
		"empty":                {"", 400, "empty", nil},
		"no SDP":               {"hello", 400, "hello", nil},
		"JSON":                 {`{"candidate":""}`, 400, "", nil},
		"no candidate":         {lines("a=candidate:nonsense"), 400, "no candidate of ICE", nil},
		"two ufrags":           {lines("a=ice-ufrag:EsAw", "m=audio 9 RTP/AVP 0", "a=ice-ufrag:Other"), 400, "two values", nil},
		"empty ufrag":          {lines("a=ice-ufrag:"), 400, "", nil},
		"unknown mid":          {lines("m=audio 9 RTP/AVP 0", "a=mid:7", "a=candidate:"+host1), 422, "a=mid:", nil},
		"more sections":        {strings.Repeat(lines("m=audio 9 RTP/AVP 0"), 3), 422, "more m-sections", nil},
		"ufrag of old":         {lines("a=ice-ufrag:Old0", "m=audio 9 RTP/AVP 0", "a=candidate:"+host1), 422, "a=ice-pwd", nil},
		"too many":             {strings.Repeat(lines("a=candidate:"+host1), 129), 400, "129", nil},
		"far more sections":    {strings.Repeat(lines("m=audio 9 RTP/AVP 0", "a=mid:0"), 257), 400, "256", nil},
		"too long":             {strings.Repeat(lines("a=x"), 20000), 413, "", nil},
		"type":                 {frag, 415, typeFragment, []string{"Content-Type", "application/sdp"}},
		"wrong ETag":           {frag, 412, "", []string{"If-Match", `"other"`}},
		"weak ETag":            {frag, 412, "", []string{"If-Match", "W/" + r.Header.Get("ETag")}},
		"wrong ETag elsewhere": {frag, 412, "", []string{"ETag", `"other"`}},
	} {
		got := h.do("PATCH", url, c.body, c.header...)
		wants(t, got, c.status, c.says)
		if c.status == 415 && (got.Header.Get("Accept-Patch") != typeFragment || got.Header.Get("Accept") != typeFragment) {
			t.Errorf("%s: it does not say what it takes", name)
		}
	}
	wants(t, h.do("DELETE", url, ""), 200)
	cam.next("bye") // and nothing before
}

func TestETagIsTakenInEveryFormThatClientsSend(t *testing.T) {
	for _, strict := range []bool{false, true} {
		h := build(t, func(c *Config) { c.Strict = strict })
		cam := h.device(trickles)
		_, r := h.opened(cam)
		url, etag := r.Header.Get("Location"), r.Header.Get("ETag")
		for _, c := range [][]string{
			{"If-Match", etag}, {"If-Match", "*"}, {"If-Match", `"other", ` + etag}, {"If-Match", strings.Trim(etag, `"`)}, {"ETag", etag},
		} {
			wants(t, h.do("PATCH", url, frag, c...), 204)
			cam.next("candidate")
		}
		if strict {
			wants(t, h.do("PATCH", url, frag), 428, "If-Match")
		} else {
			wants(t, h.do("PATCH", url, frag), 204)
		}
		wants(t, h.do("DELETE", url, ""), 200) // needs none (RFC 9725, 4.2)
	}
}

// newICE is a fragment that restarts ICE.
var newICE = lines("a=ice-ufrag:New1", "a=ice-pwd:N2uYro0UCOQ4zxjKXaWCBui1", "m=audio 9 RTP/AVP 0", "a=mid:0", "a=candidate:"+host2)

func TestRestartGoesOutAsAnOfferAndComesBackAsAFragment(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	m, opened := h.opened(cam)
	url, etag := opened.Header.Get("Location"), opened.Header.Get("ETag")
	var restart struct{ SDP string }
	for n := 1; n <= 2; n++ {
		fragment := strings.ReplaceAll(newICE, "New1", fmt.Sprintf("New%d", n))
		done := make(chan struct{})
		go func() {
			defer close(done)
			again := cam.next("offer")
			if again.Session != m.Session || again.Src != m.Src {
				t.Errorf("the restart is of %s, session %s", again.Src, again.Session)
			}
			if err := json.Unmarshal(again.Payload, &restart); err != nil {
				t.Error(err)
			}
			_ = cam.candidate(again, srflx+fmt.Sprintf(" ufrag Re%d", n))
			_ = cam.candidate(again, host1+" ufrag Dev1") // of before
			_ = cam.answer(again, strings.ReplaceAll(answer, "Dev1", fmt.Sprintf("Re%d", n)))
			_ = cam.candidate(again, "")
		}()
		r := h.do("PATCH", url, fragment, "If-Match", "*")
		body := wants(t, r, 200)
		<-done
		want := strings.NewReplacer("EsAw", fmt.Sprintf("New%d", n), "P2uYro0U", "N2uYro0U", "4611 2", fmt.Sprintf("4611 %d", 2+n),
			"m=video", "a=candidate:"+host2+"\r\nm=video").Replace(offer)
		if restart.SDP != want {
			t.Errorf("the device got %s\nwant %s", restart.SDP, want)
		}
		ufrag := fmt.Sprintf("a=ice-ufrag:Re%d", n)
		if want := lines("a=group:BUNDLE 0 1",
			"m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", ufrag, "a=ice-pwd:CCkNzxjKXaWCBui1P2uYro0U", fmt.Sprintf("a=candidate:%s ufrag Re%d", srflx, n), "a=end-of-candidates",
			"m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", ufrag, "a=ice-pwd:CCkNzxjKXaWCBui1P2uYro0U"); body != want {
			t.Errorf("the answer is %s\nwant %s", body, want)
		}
		if r.Header.Get("Content-Type") != typeFragment || r.Header.Get("ETag") == etag || r.Header.Get("ETag") == "" || r.Header.Get("Link") == "" {
			t.Errorf("its header is %v", r.Header)
		}
		wants(t, h.do("PATCH", url, fragment, "If-Match", etag), 412)
		etag = r.Header.Get("ETag")
		wants(t, h.do("PATCH", url, fragment, "If-Match", etag), 204) // the same ufrag: no restart
		if c := cam.next("candidate"); !strings.Contains(string(c.Payload), fmt.Sprintf(`"usernameFragment":"New%d"`, n)) {
			t.Errorf("it got %s", c.Payload)
		}
	}
	for _, late := range []string{frag, strings.ReplaceAll(newICE, "New1", "EsAw"), newICE} {
		wants(t, h.do("PATCH", url, late), 412, "restarted") // a restart of its own, without If-Match, by the look of it
	}
	wants(t, h.do("DELETE", url, ""), 200)
	cam.next("bye") // and nothing before
}

func TestDeviceThatCannotRestartIs422AndItsSessionGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		cam := h.device(trickles)
		_, opened := h.opened(cam)
		url, etag := opened.Header.Get("Location"), opened.Header.Get("ETag")
		go func() { _ = cam.answer(cam.next("offer"), answer+"a=end-of-candidates\r\n") }()
		wants(t, h.do("PATCH", url, newICE), 422, "does not restart ICE")

		begin := time.Now()
		wants(t, h.do("PATCH", url, newICE), 504)
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("after %v", took)
		}
		cam.next("offer")
		wants(t, h.do("PATCH", url, frag, "If-Match", etag), 204)
		cam.next("candidate")

		go func() { _ = cam.say(cam.next("offer"), `{"type":"bye","session":"","reason":"failed"}`) }()
		wants(t, h.do("PATCH", url, newICE), 422, "hung up")
		wants(t, h.do("PATCH", url, frag), 404)
	})
}

func TestLateAnswerIsNotTakenForTheAnswerToTheNextOffer(t *testing.T) {
	restart := func(n int) string { return strings.ReplaceAll(newICE, "New1", fmt.Sprint("New", n)) }
	answered := func(n int) string {
		return strings.ReplaceAll(answer, "Dev1", fmt.Sprint("Re", n)) + "a=end-of-candidates\r\n"
	}
	for name, says := range map[string]func(cam *device, m topics.Delivery) []error{
		"beside the next": func(cam *device, m topics.Delivery) []error {
			return []error{cam.candidate(m, host1), cam.answer(m, answered(1)), cam.answer(m, answered(2))}
		},
		"never": func(cam *device, m topics.Delivery) []error {
			time.Sleep(owedFor - 7*time.Second + time.Millisecond) // fake time
			return []error{cam.answer(m, answered(2))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := build(t)
				cam := h.device(trickles)
				_, opened := h.opened(cam)
				url := opened.Header.Get("Location")
				wants(t, h.do("PATCH", url, restart(1)), 504)
				cam.next("offer")
				h.cfg.Deadline = time.Minute
				time.Sleep(7 * time.Second)
				go func() {
					for _, err := range says(cam, cam.next("offer")) {
						if err != nil {
							t.Error(err)
						}
					}
				}()
				if body := wants(t, h.do("PATCH", url, restart(2)), 200, "a=ice-ufrag:Re2"); strings.Contains(body, host1) {
					t.Errorf("it has a candidate of before: %s", body)
				}
			})
		})
	}
	t.Run("before the next", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := build(t)
			cam := h.device(trickles)
			_, opened := h.opened(cam)
			url := opened.Header.Get("Location")
			wants(t, h.do("PATCH", url, restart(1)), 504)
			if err := cam.answer(cam.next("offer"), answered(1)); err != nil {
				t.Error(err)
			}
			go func() { _ = cam.answer(cam.next("offer"), answered(2)) }()
			wants(t, h.do("PATCH", url, restart(2)), 200, "a=ice-ufrag:Re2")
		})
	})
}

// A device that missed an offer answers the next: that is swallowed, since it cannot be
// told from a late one, but it must not be for ever.
func TestRestartWorksAgainAfterAnOfferThatTheDeviceMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		cam := h.device(trickles)
		_, opened := h.opened(cam)
		url := opened.Header.Get("Location")
		for n, status := range []int{504, 504, 200, 200} {
			go func() {
				if m := cam.next("offer"); n > 0 {
					_ = cam.answer(m, strings.ReplaceAll(answer, "Dev1", fmt.Sprint("Re", n))+"a=end-of-candidates\r\n")
				}
			}()
			wants(t, h.do("PATCH", url, strings.ReplaceAll(newICE, "New1", fmt.Sprint("New", n))), status)
			time.Sleep(time.Second) // fake time
		}
	})
}

func TestRequestsOfASessionTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		cam := h.device(trickles)
		_, opened := h.opened(cam)
		url := opened.Header.Get("Location")
		var waiting sync.WaitGroup
		waiting.Go(func() { wants(t, h.do("PATCH", url, newICE), 504) })
		m := cam.next("offer")
		time.Sleep(time.Second)
		waiting.Go(func() { wants(t, h.do("PATCH", url, frag), 204) })
		synctest.Wait()
		if len(cam.got) > 0 {
			t.Error("a candidate went out before the restart was over")
		}
		waiting.Wait()
		cam.next("candidate")
		waiting.Go(func() { wants(t, h.do("PATCH", url, newICE), 404) }) // it waits, and ends with the session
		cam.next("offer")
		wants(t, h.do("DELETE", url, ""), 200)
		if bye := cam.next("bye"); bye.Session != m.Session {
			t.Errorf("it heard %s", bye.Payload)
		}
		waiting.Wait()
	})
}

func TestSessionMayEndWhileItsRestartGoesOut(t *testing.T) {
	h := build(t, func(c *Config) { c.Joins = -1 })
	cam := h.device(trickles)
	for range 20 {
		_, opened := h.opened(cam)
		url := opened.Header.Get("Location")
		var restarting sync.WaitGroup
		restarting.Go(func() { wants(t, h.do("PATCH", url, newICE), 404) })
		cam.next("offer")
		wants(t, h.do("DELETE", url, ""), 200)
		cam.next("bye")
		restarting.Wait()
	}
}

func TestDeleteEndsTheSessionOnce(t *testing.T) {
	h := build(t)
	cam := h.device(trickles)
	m, opened := h.opened(cam)
	url := opened.Header.Get("Location")
	wants(t, h.do("DELETE", url, ""), 200)
	if bye := cam.next("bye"); string(bye.Payload) != `{"reason":"hangup","session":"`+m.Session+`","type":"bye"}` {
		t.Errorf("it heard %s", bye.Payload)
	}
	for _, method := range []string{"DELETE", "PATCH"} {
		wants(t, h.do(method, url, frag), 404)
	}
	if err := cam.candidate(m, host1); topics.AsError(err).Code != topics.NotFound {
		t.Errorf("its peer is there still: %v", err)
	}
}

func TestByeOrGoingOfTheDeviceEndsTheSession(t *testing.T) {
	for _, goes := range []bool{false, true} {
		h := build(t)
		cam := h.device(trickles)
		m, opened := h.opened(cam)
		if goes {
			cam.bus.Close(true)
		} else if err := cam.say(m, `{"type":"bye","session":""}`); err != nil {
			t.Fatal(err)
		}
		if n := h.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		wants(t, h.do("PATCH", opened.Header.Get("Location"), frag), 404)
		wants(t, h.do("DELETE", opened.Header.Get("Location"), ""), 404)
	}
}

func TestSessionOfWhomTheBusEndsIsOver(t *testing.T) {
	for _, says := range []string{
		`{"type":"error","code":401,"reason":"unauthorized","message":"the credentials have expired"}`,
		`{"type":"error","code":403,"reason":"forbidden","message":"not in garage any more"}`,
	} {
		var inbox func(topics.Delivery) error
		h := build(t, func(c *Config) {
			connect := c.Connect
			c.Connect = wrapped(connect, &inbox)
		})
		cam := h.device(trickles)
		_, opened := h.opened(cam)
		d := topics.Delivery{Address: topics.Address{Kind: topics.Direct, Src: topics.Server}, Payload: []byte(says), Message: topics.Message{Type: topics.TypeError}}
		if strings.Contains(says, "403") {
			d.Room = "garage"
		}
		if err := inbox(d); err != nil {
			t.Error(err)
		}
		wants(t, h.do("DELETE", opened.Header.Get("Location"), ""), 404)
		cam.next("bye")
		if err := inbox(d); topics.AsError(err).Code != topics.Offline {
			t.Errorf("an inbox that is over says %v", err)
		}
	}
}

func TestErrorAboutTheOfferIsTheAnswer(t *testing.T) {
	var inbox func(topics.Delivery) error
	h := build(t, func(c *Config) { c.Connect = wrapped(c.Connect, &inbox) })
	cam := h.device(trickles)
	answered := h.post("/whep/garage/cam1", offer)
	m := cam.next("offer")
	told := topics.Errorf(topics.Offline, "cam1 is offline in garage").Of(m.Message, "cam1")
	_ = inbox(topics.Delivery{Address: topics.Address{Room: "garage", Kind: topics.Direct, Src: topics.Server, Dst: m.Src}, Payload: told.Payload(), Message: topics.Message{Type: topics.TypeError}})
	wants(t, <-answered, 409, "cam1 is offline")
}

func TestURLIsWhatItTakesButForeignCredentialsAreRefused(t *testing.T) {
	threat.Row(t, 27, threat.HTTP)
	h := build(t)
	cam := h.device(trickles)
	_, opened := h.opened(cam) // by peer1
	url := opened.Header.Get("Location")
	for _, c := range []struct {
		credentials string
		query       string
		status      int
	}{
		{"Bearer " + token + "peer2", "", 403},
		{"Bearer " + token + "viewer1", "", 403},
		{"Bearer nonsense", "", 401},
		{"Basic cGVlcjpub25zZW5zZQ==", "", 401},
		{"Basic cGVlcjI6aHVudGVyMi1wZWVyMg==", "", 403}, // peer2
		{"", "?access_token=" + token + "peer2", 403},
		{"", "?access_token=nonsense", 401},
		{"Bearer " + token + "peer1", "", 204},
		{"Basic cGVlcjE6aHVudGVyMi1wZWVyMQ==", "", 204}, // peer1, in another way
		{"", "?access_token=" + token + "peer1", 204},
		{"", "", 204},
	} {
		r := h.do("PATCH", url+c.query, frag, "Authorization", c.credentials)
		wants(t, r, c.status)
		if c.status == 204 {
			cam.next("candidate")
			continue
		}
		wants(t, h.do("DELETE", url+c.query, "", "Authorization", c.credentials), c.status)
	}
	for _, foreign := range []string{
		strings.Replace(url, "/whep/", "/whip/", 1), strings.Replace(url, "garage", "attic", 1), strings.Replace(url, "cam1", "cam2", 1),
		url[:len(url)-1], url + "A", strings.ToLower(url), url + "/",
	} {
		if r := h.do("DELETE", foreign, ""); r.StatusCode < 400 {
			t.Errorf("%s: %d", strings.Replace(foreign, url, "URL", 1), r.StatusCode)
		}
	}
	wants(t, h.do("DELETE", url, ""), 200)
}

// In --dev whoever names nobody is somebody else each time.
func TestSameCredentialsAreTheSameIdentity(t *testing.T) {
	h := build(t, func(c *Config) {
		c.Authenticate = func(context.Context, topics.Credentials) (topics.Identity, error) {
			return topics.Identity{Name: "guest-" + strings.ToLower(rand.Text()[:8]), Grants: []topics.Grant{{Room: "*", Role: topics.Peer}}}, nil
		}
	})
	cam := h.device(trickles)
	_, opened := h.opened(cam, "Authorization", "Bearer x")
	url := opened.Header.Get("Location")
	wants(t, h.do("PATCH", url, frag, "Authorization", "Bearer y"), 403)
	wants(t, h.do("PATCH", url, frag, "Authorization", "Bearer x"), 204)
}

func TestHundredThousandGuessesFindNoSession(t *testing.T) {
	threat.Row(t, 27, threat.HTTP)
	h := build(t)
	cam := h.device(trickles)
	_, opened := h.opened(cam)
	url := opened.Header.Get("Location")
	begin := url[:strings.LastIndexByte(url, '/')+1]
	r, answer := httptest.NewRequest("DELETE", url, nil), deaf{}
	for range 100_000 {
		r.URL.Path = begin + rand.Text()
		if h.ServeHTTP(answer, r); answer["status"][0] != "404" {
			t.Fatalf("status %s", answer["status"])
		}
	}
	wants(t, h.do("DELETE", url, ""), 200)
}

// deaf is an answer of which only the status is kept.
type deaf http.Header

func (d deaf) Header() http.Header         { return http.Header(d) }
func (d deaf) Write(p []byte) (int, error) { return len(p), nil }
func (d deaf) WriteHeader(status int)      { d["status"] = []string{strconv.Itoa(status)} }
