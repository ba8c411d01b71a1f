package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// Who plays a camera by WHEP, through the whole server.

// request makes a request; header is of names and values in turn.
func request(t testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

// askFor posts an offer for cam1 of garage.
func (s *testServer) askFor(t testing.TB, offer string, header ...string) (*http.Response, string) {
	t.Helper()
	return request(t, "POST", s.URL+"/whep/garage/cam1", offer, append([]string{"Content-Type", "application/sdp"}, header...)...)
}

// player is a pion WHEP client. It does not trickle, and its offer has no
// candidates, as that of OBS has none.
type player struct {
	t      *testing.T
	pc     *webrtc.PeerConnection
	rtp    chan struct{} // has some for packets of video
	answer string
}

func newPlayer(t *testing.T) *player {
	t.Helper()
	engine := webrtc.SettingEngine{}
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine), webrtc.WithMediaEngine(codecs(t))).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	p := &player{t: t, pc: pc, rtp: make(chan struct{}, 10)}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			select {
			case p.rtp <- struct{}{}:
			default:
			}
		}
	})
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	return p
}

func codecs(t *testing.T) *webrtc.MediaEngine {
	m := new(webrtc.MediaEngine)
	if err := m.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	return m
}

// offer is an offer without candidates; with restart, of new ICE.
func (p *player) offer(restart bool) string {
	p.t.Helper()
	offer, err := p.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err == nil {
		err = p.pc.SetLocalDescription(offer)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return offer.SDP
}

func (p *player) accept(answer string) {
	p.t.Helper()
	p.answer = answer
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		p.t.Fatalf("%v: %s", err, answer)
	}
}

// plays waits for packets of video, n of them.
func (p *player) plays(n int) {
	p.t.Helper()
	late := time.After(patience)
	for range n {
		select {
		case <-p.rtp:
		case <-late:
			p.t.Fatalf("no video; the connection is %v", p.pc.ConnectionState())
		}
	}
}

// valueOf is what follows prefix in the first line of SDP that begins with it.
func valueOf(sdp, prefix string) string {
	_, after, _ := strings.Cut(sdp, "\n"+prefix)
	value, _, _ := strings.Cut(after, "\r")
	return value
}

func TestCameraIsPlayedByWHEPWithoutAnyTrickle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		most time.Duration // for 201: 300 and 50 ms are meant, of a machine that does nothing else
	}{
		{nil, 1200 * time.Millisecond},
		{[]string{"--no-trickle"}, 500 * time.Millisecond},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			s := startServer(t)
			startCamera(t, s, c.args...)
			best := time.Hour
			for range 5 {
				p := newPlayer(t)
				offer := p.offer(false)
				begin := time.Now()
				r, answer := s.askFor(t, offer)
				best = min(best, time.Since(begin))
				if r.StatusCode != http.StatusCreated {
					t.Fatalf("status %d: %s", r.StatusCode, answer)
				}
				t.Logf("201 after %v", time.Since(begin))
				if !strings.Contains(answer, "\r\na=candidate:") || !strings.Contains(answer, "\r\na=end-of-candidates\r\n") {
					t.Errorf("not all candidates are in the answer:\n%s", answer)
				}
				p.accept(answer)
				p.plays(10)
				if r, body := request(t, "DELETE", s.URL+r.Header.Get("Location"), ""); r.StatusCode != http.StatusOK {
					t.Errorf("status %d: %s", r.StatusCode, body)
				}
			}
			if best > c.most {
				t.Errorf("201 came after %v at best, want %v", best, c.most)
			}
		})
	}
}

func TestCameraIsPlayedByWHEPWithTrickleAndARestart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	p := newPlayer(t)
	found := make(chan string, 100)
	p.pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			found <- ""
			return
		}
		found <- c.ToJSON().Candidate
	})
	// fragment is all candidates of the offer.
	fragment := func(offer string) string {
		f := "a=ice-ufrag:" + valueOf(offer, "a=ice-ufrag:") + "\r\na=ice-pwd:" + valueOf(offer, "a=ice-pwd:") + "\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n"
		for c := <-found; c != ""; c = <-found {
			f += "a=" + c + "\r\n"
		}
		return f + "a=end-of-candidates\r\n"
	}
	offer := p.offer(false)
	r, answer := s.askFor(t, offer)
	if r.StatusCode != http.StatusCreated {
		t.Fatalf("status %d: %s", r.StatusCode, answer)
	}
	p.accept(answer)
	session, etag := s.URL+r.Header.Get("Location"), r.Header.Get("ETag")
	patch := func(body, match string) (*http.Response, string) {
		return request(t, "PATCH", session, body, "Content-Type", "application/trickle-ice-sdpfrag", "If-Match", match)
	}
	if r, body := patch(fragment(offer), etag); r.StatusCode != http.StatusNoContent || body != "" {
		t.Fatalf("status %d: %s", r.StatusCode, body)
	}
	p.plays(10)

	r, again := patch(fragment(p.offer(true)), "*")
	if r.StatusCode != http.StatusOK || r.Header.Get("ETag") == etag || !strings.Contains(again, "\r\na=candidate:") {
		t.Fatalf("status %d: %s", r.StatusCode, again)
	}
	ufrag := valueOf(again, "a=ice-ufrag:")
	if ufrag == "" || ufrag == valueOf(answer, "a=ice-ufrag:") {
		t.Fatalf("ICE was not restarted: %s", again)
	}
	var next strings.Builder // the answer with its new ICE
	for line := range strings.Lines(answer) {
		switch {
		case strings.HasPrefix(line, "a=candidate:"), strings.HasPrefix(line, "a=end-of-candidates"):
		case strings.HasPrefix(line, "a=ice-ufrag:"):
			next.WriteString("a=ice-ufrag:" + ufrag + "\r\n")
		case strings.HasPrefix(line, "a=ice-pwd:"):
			next.WriteString("a=ice-pwd:" + valueOf(again, "a=ice-pwd:") + "\r\n")
		default:
			next.WriteString(line)
		}
	}
	for line := range strings.Lines(again) {
		if strings.HasPrefix(line, "a=candidate:") {
			next.WriteString(line)
		}
	}
	for len(p.rtp) > 0 {
		<-p.rtp
	}
	p.accept(next.String())
	p.plays(20)
}

// whepOffer is one that no WebRTC stack has to understand.
const whepOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n" +
	"a=recvonly\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"

// answersOne answers the next offer, with all candidates, and returns its session
// and sender.
func (c *caller) answersOne() (peer, session string) {
	c.t.Helper()
	e := c.until("an offer", func(e event) bool { return e.kind == "message" && strings.Contains(e.text, `"type":"offer"`) })
	var m struct{ Session string }
	if err := json.Unmarshal([]byte(e.text), &m); err != nil {
		c.t.Fatal(err)
	}
	sdp, _ := json.Marshal(strings.Replace(whepOffer, "recvonly", "sendonly\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\na=end-of-candidates", 1))
	c.send(e.from, `{"type":"answer","session":"`+m.Session+`","sdp":`+string(sdp)+`}`)
	return e.from, m.Session
}

// whep opens a session with cam, and returns its URL.
func (s *site) whep(t *testing.T, cam *caller, header ...string) (url, peer, session string) {
	t.Helper()
	opened := make(chan *http.Response, 1)
	go func() {
		defer close(opened)
		if r, _ := s.askFor(t, whepOffer, header...); r.StatusCode == http.StatusCreated {
			opened <- r
		}
	}()
	peer, session = cam.answersOne()
	r, ok := <-opened
	if !ok {
		t.Fatal("no session was opened")
	}
	return s.URL + r.Header.Get("Location"), peer, session
}

func TestWHEPSessionEndsWhenItsAccountIsRevoked(t *testing.T) {
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	s := startSite(t, "--users="+users, "--limit-logins=0")
	cam := s.member(t, mqtt3TCP, "cam1", camera1)
	basic := func(user, password string) string {
		r, _ := http.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	url, peer, session := s.whep(t, cam, "Authorization", basic("alice", alicePwd))
	if r, _ := request(t, "PATCH", url, "a=end-of-candidates\r\n", "Content-Type", "application/trickle-ice-sdpfrag"); r.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", r.StatusCode)
	}
	cam.until("a candidate", func(e event) bool { return e.from == peer && strings.Contains(e.text, "candidate") })
	full, err := os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(full), "\n- ")
	without := first + "\n"
	if strings.HasPrefix(first, "- name: alice") {
		without = "- " + second
	}
	replace(t, users, without)
	cam.until("bye", func(e event) bool {
		return e.from == peer && strings.Contains(e.text, `"bye"`) && strings.Contains(e.text, session)
	})
	eventually(t, "the end of the session", func() bool {
		r, _ := request(t, "PATCH", url, "a=end-of-candidates\r\n", "Content-Type", "application/trickle-ice-sdpfrag")
		return r.StatusCode == http.StatusNotFound
	})
	if r, _ := s.askFor(t, whepOffer, "Authorization", basic("alice", alicePwd)); r.StatusCode != http.StatusUnauthorized || r.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("status %d", r.StatusCode)
	}
	if strings.Contains(s.Log.String(), alicePwd) {
		t.Error("a password is in the log")
	}
}

func TestWHEPSessionIsForTheGrantedOnly(t *testing.T) {
	key := writeFile(t, "jwt.key", secret)
	s := startSite(t, "--jwt-key="+key, "--limit-logins=0")
	signer, err := auth.New(auth.Config{JWTKey: key})
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(name string, role topics.Role, of string) string {
		token, _, err := signer.SignToken(auth.Claims{Name: name, Rooms: []string{"garage"}, Role: role, Peer: of})
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	camToken := strings.TrimPrefix(bearer("cam1", topics.Peer, ""), "Bearer ")
	cam := s.member(t, jsonWS, "cam1", camToken)
	for _, c := range []struct {
		who    string
		status int
	}{
		{bearer("bob", topics.Viewer, "cam2"), 403}, {bearer("bob", topics.Observer, ""), 403}, {"Bearer nonsense", 401}, {"", 401},
	} {
		if r, body := s.askFor(t, whepOffer, "Authorization", c.who); r.StatusCode != c.status {
			t.Errorf("status %d, want %d: %s", r.StatusCode, c.status, body)
		}
	}
	alice := bearer("alice", topics.Viewer, "cam1")
	url, _, _ := s.whep(t, cam, "Authorization", alice)
	for _, c := range []struct {
		who    string
		status int
	}{
		{bearer("bob", topics.Viewer, "cam1"), 403}, {"Bearer nonsense", 401}, {bearer("alice", topics.Peer, ""), 200}, {alice, 404},
	} {
		if r, body := request(t, "DELETE", url, "", "Authorization", c.who); r.StatusCode != c.status {
			t.Errorf("status %d, want %d: %s", r.StatusCode, c.status, body)
		}
	}
}

func TestSleepingCameraIsWokenForWHEP(t *testing.T) {
	t.Parallel()
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	s := startSite(t, "--users="+users, "--hold=1s")
	alice := s.member(t, jsonWS, "alice", alicePwd)
	cam := s.member(t, mqtt3TCP, "cam1", camera1)
	alice.sees("cam1")
	sleeps := func(e event) bool { return e.from == "cam1" && strings.Contains(e.text, `"online":false`) }
	cam.line.leave()
	alice.until("that cam1 sleeps", sleeps)
	r, _ := http.NewRequest("GET", "/", nil)
	r.SetBasicAuth("alice", alicePwd)
	offline, body := s.askFor(t, whepOffer, "Authorization", r.Header.Get("Authorization"))
	if offline.StatusCode != http.StatusConflict || offline.Header.Get("Retry-After") == "" || !strings.Contains(body, "offline") {
		t.Errorf("status %d: %s", offline.StatusCode, body)
	}
	if offline.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("it is %s", offline.Header.Get("Content-Type"))
	}

	opened := make(chan int, 1)
	go func() {
		r, _ := s.askFor(t, whepOffer, "Authorization", r.Header.Get("Authorization"))
		opened <- r.StatusCode
	}()
	alice.until("a caller", func(e event) bool { return e.kind == "presence" && strings.HasPrefix(e.from, "http-") && !e.gone() })
	awake, err := s.login(t, mqtt5TCP, "cam1", camera1)
	if err != nil {
		t.Fatal(err)
	}
	awake.again = sleeps
	awake.room = "garage"
	if err := awake.line.join("garage"); err != nil {
		t.Fatal(err)
	}
	awake.answersOne()
	if status := <-opened; status != http.StatusCreated {
		t.Errorf("status %d", status)
	}
}

func TestFullDeviceIs503ByWHEP(t *testing.T) {
	s := startSite(t, "--limit-sessions=2")
	cam := s.caller(t, mqtt3TCP, "cam1", "garage")
	var urls []string
	for range 2 {
		url, _, _ := s.whep(t, cam)
		urls = append(urls, url)
	}
	if r, body := s.askFor(t, whepOffer); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("status %d: %s", r.StatusCode, body)
	}
	if r, _ := request(t, "DELETE", urls[0], ""); r.StatusCode != http.StatusOK {
		t.Errorf("status %d", r.StatusCode)
	}
	s.whep(t, cam)
}

func TestStopEndsNoWHEPSession(t *testing.T) {
	s := startSite(t, "--grace=0")
	cam := s.caller(t, mqtt3TCP, "cam1", "garage")
	s.whep(t, cam)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	cam.isEnded("0x8B", "4001")
	cam.line.leave()
	for len(cam.events) > 0 {
		if e := <-cam.events; strings.Contains(e.text, `"bye"`) {
			t.Errorf("cam1 got %v", e)
		}
	}
}

func TestWHIPReachesThePeerAndPreflightIsAnswered(t *testing.T) {
	s := startSite(t)
	cam := s.caller(t, jsonWS, "cam1", "garage")
	opened := make(chan int, 1)
	go func() {
		r, _ := request(t, "POST", s.URL+"/whip/garage/cam1", strings.Replace(whepOffer, "recvonly", "sendonly", 1), "Content-Type", "application/sdp")
		opened <- r.StatusCode
	}()
	cam.answersOne()
	if status := <-opened; status != http.StatusCreated {
		t.Errorf("status %d", status)
	}
	r, _ := request(t, "OPTIONS", s.URL+"/whip/garage/cam1", "", "Origin", "http://localhost:5173", "Access-Control-Request-Method", "POST")
	if r.StatusCode != http.StatusNoContent || r.Header.Get("Access-Control-Allow-Origin") != "http://localhost:5173" ||
		!strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), "PATCH") {
		t.Errorf("status %d, %v", r.StatusCode, r.Header)
	}
	if r, _ := request(t, "OPTIONS", s.URL+"/whip/garage/cam1", "", "Origin", "https://evil.example"); r.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", r.StatusCode)
	}
}

func TestPlayerIsToldOfICEServersWithCredentialsOfItsOwn(t *testing.T) {
	s := startSite(t, "--turn-listen=127.0.0.1:0")
	cam := s.caller(t, mqtt5TCP, "cam1", "garage")
	opened := make(chan http.Header, 1)
	go func() {
		r, _ := s.askFor(t, whepOffer)
		opened <- r.Header
	}()
	peer, _ := cam.answersOne()
	links := strings.Join((<-opened).Values("Link"), "\n")
	for _, part := range []string{`<turn:127.0.0.1:`, `; rel="ice-server"; username="`, ":" + peer + `"; credential="`, `; credential-type="password"`} {
		if !strings.Contains(links, part) {
			t.Errorf("no %s in the links", part)
		}
	}
}
