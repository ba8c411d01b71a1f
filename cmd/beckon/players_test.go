package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pion/webrtc/v4"
)

// WHEP and WHIP clients that others wrote, unchanged from npm, in a browser. Their
// pages are of another origin than the server.

// record is a server as its clients reach it, with a record of what they asked.
type record struct {
	t      *testing.T
	URL    string
	server string // the URL behind it

	mu    sync.Mutex // guards what follows
	asked []asked
}

// asked is a request with its answer.
type asked struct {
	method, path string
	header       http.Header
	body         string
	status       int
	answer       http.Header
	said         string
	took         time.Duration
}

func (a asked) String() string {
	return fmt.Sprintf("%s %s %d, If-Match %q, ETag %q, Content-Type %q, %d bytes", a.method, a.path, a.status,
		a.header.Get("If-Match"), a.header.Get("ETag"), a.header.Get("Content-Type"), len(a.body))
}

// startRecord stands in front of a server.
func startRecord(t *testing.T, s *testServer) *record {
	t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{t: t, server: s.URL}
	transport := new(http.Transport)
	proxy := &httputil.ReverseProxy{Transport: transport, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		q.Body = io.NopCloser(bytes.NewReader(body))
		begin, answer := time.Now(), httptest.NewRecorder()
		proxy.ServeHTTP(answer, q)
		r.mu.Lock()
		r.asked = append(r.asked, asked{q.Method, q.URL.Path, q.Header, string(body), answer.Code, answer.Header(), answer.Body.String(), time.Since(begin)})
		r.mu.Unlock()
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
		if t.Failed() {
			for _, a := range r.all("") {
				t.Log(a)
			}
		}
	})
	r.URL = front.URL
	return r
}

// all are the requests with that method so far; "": any.
func (r *record) all(method string) (found []asked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.asked {
		if method == "" || a.method == method {
			found = append(found, a)
		}
	}
	return found
}

// one waits for the n-th request with that method, from 1, and checks its status; 0
// is any.
func (r *record) one(method string, n, status int) asked {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%s, %d times", method, n), func() bool { return len(r.all(method)) >= n })
	a := r.all(method)[n-1]
	if status != 0 && a.status != status {
		r.t.Errorf("%s, want %d: %s", a, status, a.said)
	}
	return a
}

// opened waits for the n-th POST, which opens a session, and returns its path.
func (r *record) opened(n int) string {
	r.t.Helper()
	a := r.one("POST", n, http.StatusCreated)
	if a.header.Get("Content-Type") != "application/sdp" || a.answer.Get("ETag") == "" || !strings.Contains(a.said, "\r\na=candidate:") {
		r.t.Errorf("%s: %s", a, a.said)
	}
	r.t.Logf("201 after %v", a.took.Round(time.Millisecond))
	return a.answer.Get("Location")
}

// isGone waits until a session has ended. It asks for what changes none that has not.
func (r *record) isGone(session string) {
	r.t.Helper()
	eventually(r.t, "the end of the session", func() bool {
		a, _ := request(r.t, "PATCH", r.server+session, "a=end-of-candidates\r\n", "Content-Type", "application/trickle-ice-sdpfrag", "If-Match", "none")
		return a.StatusCode == http.StatusNotFound
	})
}

// servePlayers bundles the pages of testdata/players and serves them. It returns
// the address of a page by its name.
func servePlayers(t *testing.T) func(page, endpoint string) string {
	t.Helper()
	const dir = "testdata/players"
	if _, err := os.Stat(dir + "/node_modules/.bin/esbuild"); err != nil {
		missing(t, "the players are not installed: run npm ci in cmd/beckon/testdata/players")
	}
	out := t.TempDir()
	bundle := exec.Command("node_modules/.bin/esbuild", "--bundle", "--format=esm", "--log-level=warning", "--outdir="+out, "whep.js", "restart.js", "whip.js")
	bundle.Dir = dir
	if text, err := bundle.CombinedOutput(); err != nil {
		t.Fatalf("bundle the players: %v\n%s", err, text)
	}
	for _, page := range []string{"whep", "restart", "whip"} {
		html := `<!doctype html><link rel="icon" href="data:,"><video autoplay muted playsinline></video><script type="module" src="` + page + `.js"></script>`
		if err := os.WriteFile(filepath.Join(out, page+".html"), []byte(html), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pages := httptest.NewServer(http.FileServer(http.Dir(out)))
	t.Cleanup(pages.Close)
	return func(page, endpoint string) string {
		return pages.URL + "/" + page + ".html?" + url.Values{"endpoint": {endpoint}}.Encode()
	}
}

// do has the browser do something, as a person does.
func (tab *tab) do(action chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, action); err != nil {
		tab.t.Fatal(err)
	}
}

// TestWHEPExamplePlaysTheCamera drives examples/whep-player: whip-whep, the client
// of the standards' authors.
func TestWHEPExamplePlaysTheCamera(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	r := startRecord(t, s)
	page := serveExample(t, "whep-player", "whip-whep")
	tab := newTab(t, page+"?"+url.Values{"endpoint": {r.URL + "/whep/garage/cam1"}}.Encode())
	tab.playing("#video", 640, 360)
	tab.waitFor(`document.querySelector('#status').dataset.state === 'live'`)
	tab.screenshot("whep-player")
	session := r.opened(1)
	eventually(t, "its candidates", func() bool { // which the end of them may overtake
		return slices.ContainsFunc(r.all("PATCH"), func(a asked) bool { return strings.Contains(a.body, "a=candidate:") })
	})
	for n := range r.all("PATCH") {
		patch := r.one("PATCH", n+1, http.StatusNoContent)
		if patch.path != session || patch.header.Get("If-Match") != "" || !strings.Contains(patch.body, "a=ice-pwd:") {
			t.Errorf("%s: %s", patch, patch.body)
		}
	}
	if allowed := r.one("OPTIONS", 1, http.StatusNoContent).answer.Get("Access-Control-Allow-Headers"); !strings.Contains(allowed, "Content-Type") {
		t.Errorf("the preflight allows %s", allowed)
	}

	tab.do(chromedp.Click("#button"))
	tab.waitFor(`document.querySelector('#status').dataset.state === 'stopped'`)
	r.one("DELETE", 1, 0) // it closes its connection first, and the camera's bye may be faster: 404
	r.isGone(session)
	tab.do(chromedp.Click("#button"))
	tab.playing("#video", 640, 360)

	tab.do(chromedp.Navigate("about:blank")) // the page hangs up as it goes
	if closed := r.one("DELETE", 2, 0); closed.path != r.opened(2) {
		t.Error(closed)
	}
}

// TestPlayerWhosePageIsReloadedPlaysAgain plays by @eyevinn/webrtc-player, which
// does not trickle, and says no DELETE when its page goes.
func TestPlayerWhosePageIsReloadedPlaysAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	r := startRecord(t, s)
	page := servePlayers(t)
	tab := newTab(t, page("whep", r.URL+"/whep/garage/cam1"))
	tab.playing("video", 640, 360)
	first := r.opened(1)
	if offer := r.one("POST", 1, http.StatusCreated).body; !strings.Contains(offer, "a=candidate:") || !strings.Contains(offer, "m=audio") {
		t.Errorf("it offers %s", offer)
	}
	tab.do(chromedp.Reload())
	tab.playing("video", 640, 360)
	second := r.opened(2)
	if n := len(r.all("PATCH")) + len(r.all("DELETE")); n > 0 {
		t.Errorf("it said PATCH or DELETE %d times", n)
	}
	tab.run(`window.player.unload().then(() => "unloaded")`)
	if stopped := r.one("DELETE", 1, http.StatusOK); stopped.path != second {
		t.Error(stopped)
	}
	r.isGone(first) // whose camera hears nothing any more
}

// TestPlayerRestartsICE restarts by whip-whep: with If-Match *, and then the new
// ETag for its candidates.
func TestPlayerRestartsICE(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	r := startRecord(t, s)
	page := servePlayers(t)
	tab := newTab(t, page("restart", r.URL+"/whep/garage/cam1"))
	tab.playing("video", 640, 360)
	tab.waitFor(`window.pc.connectionState === "connected" && window.pc.iceGatheringState === "complete"`)
	for n := range 2 {
		if got := tab.run(`window.client.restart().then(() => "restarted", (e) => String(e))`); got != "restarted" {
			t.Fatal(got)
		}
		with := func(match string) []asked {
			return slices.DeleteFunc(r.all("PATCH"), func(a asked) bool { return a.header.Get("If-Match") != match })
		}
		restart := with("*")[n]
		if restart.status != http.StatusOK {
			t.Errorf("%s: %s", restart, restart.body)
		}
		etag := restart.answer.Get("ETag")
		eventually(t, "its candidates", func() bool {
			return slices.ContainsFunc(with(etag), func(a asked) bool { return strings.Contains(a.body, "a=candidate:") })
		})
		for _, trickle := range with(etag) {
			if trickle.status != http.StatusNoContent {
				t.Errorf("%s, %s: %s", trickle, trickle.said, trickle.body)
			}
		}
		ufrag := valueOf(restart.said, "a=ice-ufrag:")
		tab.waitFor(fmt.Sprintf(`window.pc.connectionState === "connected" && window.pc.currentRemoteDescription.sdp.includes(%q)`, ufrag))
		tab.playing("video", 640, 360)
		t.Logf("restart %d answered after %v", n+1, restart.took.Round(time.Millisecond))
	}
}

func TestSessionOfAPlayerEndsWithItsCamera(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace=500ms")
	camera := startCamera(t, s)
	r := startRecord(t, s)
	page := serveExample(t, "whep-player", "whip-whep")
	tab := newTab(t, page+"?"+url.Values{"endpoint": {r.URL + "/whep/garage/cam1"}}.Encode())
	tab.playing("#video", 640, 360)
	for n, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} { // it says bye; it is unplugged
		session := r.opened(n + 1)
		camera.stop(sig)
		r.isGone(session)
		tab.waitFor(`document.querySelector('#status').dataset.state === 'failed'`)
		camera = startCamera(t, s)
		tab.playing("#video", 640, 360)
	}
}

// screen is a peer that shows what others send it: pion, on MQTT.
type screen struct {
	*caller
	pc         *webrtc.PeerConnection
	rtp        map[string]chan struct{} // has one for a packet of "audio" or "video"
	candidates []string                 // that trickled in
}

func newScreen(t *testing.T, c *caller) *screen {
	t.Helper()
	engine := webrtc.SettingEngine{}
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine), webrtc.WithMediaEngine(codecs(t))).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	x := &screen{caller: c, pc: pc, rtp: map[string]chan struct{}{"audio": make(chan struct{}, 10), "video": make(chan struct{}, 10)}}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			select {
			case x.rtp[track.Kind().String()] <- struct{}{}:
			default:
			}
		}
	})
	return x
}

// hear takes what the sender of a session says, until a bye.
func (x *screen) hear(until func() bool) {
	x.t.Helper()
	for !until() {
		e := x.next("a message of who publishes")
		if e.kind != "message" || !strings.HasPrefix(e.from, "http-") {
			continue
		}
		var m struct {
			Type, Session, SDP, Candidate string
			SDPMid                        *string
			SDPMLineIndex                 *uint16
		}
		if err := json.Unmarshal([]byte(e.text), &m); err != nil {
			x.t.Fatal(err)
		}
		switch m.Type {
		case "offer":
			x.answers(e.from, m.Session, m.SDP)
		case "candidate":
			x.candidates = append(x.candidates, m.Candidate)
			if err := x.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: m.Candidate, SDPMid: m.SDPMid, SDPMLineIndex: m.SDPMLineIndex}); err != nil {
				x.t.Errorf("%v: %s", err, e.text)
			}
		}
	}
}

// answers answers an offer with all candidates.
func (x *screen) answers(to, session, offer string) {
	x.t.Helper()
	gathered := webrtc.GatheringCompletePromise(x.pc)
	if err := x.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		x.t.Fatal(err)
	}
	answer, err := x.pc.CreateAnswer(nil)
	if err == nil {
		err = x.pc.SetLocalDescription(answer)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	<-gathered
	sdp, _ := json.Marshal(x.pc.LocalDescription().SDP)
	x.send(to, `{"type":"answer","session":"`+session+`","sdp":`+string(sdp)+`}`)
}

// TestBrowserPublishesToAPeerOnMQTT publishes by @eyevinn/whip-web-client: it asks
// for PATCH by OPTIONS, has the ETag in a header of that name, and sends each
// candidate for each section as one of component 0.
func TestBrowserPublishesToAPeerOnMQTT(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	r := startRecord(t, s.testServer)
	page := servePlayers(t)
	screen := newScreen(t, s.caller(t, mqtt3TCP, "desk", "garage"))
	tab := newTab(t, page("whip", r.URL+"/whip/garage/desk"))
	screen.hear(func() bool { return len(screen.candidates) > 0 })
	for _, kind := range []string{"audio", "video"} {
		for range 20 {
			select {
			case <-screen.rtp[kind]:
			case <-time.After(patience):
				t.Fatalf("no %s; the connection is %v", kind, screen.pc.ConnectionState())
			}
		}
	}
	if got := tab.run("window.published"); got != "published" {
		t.Error(got)
	}
	session, etag := r.opened(1), r.one("POST", 1, http.StatusCreated).answer.Get("ETag")
	for n := range r.all("PATCH") {
		patch := r.one("PATCH", n+1, http.StatusNoContent)
		if patch.path != session || patch.header.Get("If-Match") != "" || patch.header.Get("ETag") != etag {
			t.Error(patch)
		}
	}
	asks := func(a asked) bool {
		return a.path == "/whip/garage/desk" && a.header.Get("Access-Control-Request-Method") == ""
	}
	if i := slices.IndexFunc(r.all("OPTIONS"), asks); i < 0 {
		t.Error("it does not ask by OPTIONS")
	} else if allowed := r.all("OPTIONS")[i].answer.Get("Access-Control-Allow-Methods"); !strings.Contains(allowed, "PATCH") {
		t.Errorf("the endpoint allows %s", allowed)
	}
	for _, c := range screen.candidates {
		if c != "" && strings.Fields(c)[1] != "1" {
			t.Errorf("a candidate is of no component: %s", c)
		}
	}
	tab.run(`window.client.destroy().then(() => "destroyed")`)
	if stopped := r.one("DELETE", 1, http.StatusOK); stopped.path != session {
		t.Error(stopped)
	}
	r.isGone(session)
	screen.until("bye", func(e event) bool { return e.kind == "message" && strings.Contains(e.text, `"bye"`) })
}
