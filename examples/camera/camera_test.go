package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// stage is a camera whose messages go to viewers in this process, each in
// order and on a goroutine of its own, as a broker would hand them on.
type stage struct {
	t      *testing.T
	camera *Camera
	lines  chan string

	mu      sync.Mutex
	viewers map[string]*viewer
}

func newStage(t *testing.T, trickle bool) *stage {
	t.Helper()
	s := &stage{t: t, lines: make(chan string, 1000), viewers: map[string]*viewer{}}
	camera, err := newCamera(trickle, s.deliver, func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		t.Log("camera:", line)
		s.lines <- line
	})
	if err != nil {
		t.Fatal(err)
	}
	s.camera = camera
	ctx, stop := context.WithCancel(context.Background())
	var playing sync.WaitGroup
	playing.Go(func() { testVideo(t).play(ctx, camera.track) })
	t.Cleanup(func() {
		camera.close()
		stop()
		playing.Wait()
	})
	return s
}

func (s *stage) deliver(to string, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.viewers[to]; v != nil {
		v.inbox <- payload
	}
}

// expect waits for a line of the camera that has the text in it.
func (s *stage) expect(anyOf ...string) string {
	s.t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case line := <-s.lines:
			for _, text := range anyOf {
				if strings.Contains(line, text) {
					return line
				}
			}
		case <-deadline:
			s.t.Fatalf("the camera never says any of %q", anyOf)
		}
	}
}

// callsEnd waits until the camera has no call left.
func (s *stage) callsEnd() {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		s.camera.mu.Lock()
		n := len(s.camera.calls)
		s.camera.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d calls left", n)
		}
		<-tick.C
	}
}

// viewer is a pion peer that shows nothing, but counts.
type viewer struct {
	offering sync.Mutex
	stage    *stage
	name     string
	session  string
	pc       *webrtc.PeerConnection
	inbox    chan []byte
	got      chan message // what the camera said, candidates apart
	packets  chan struct{}
	last     chan struct{} // the camera's ends of candidates
	deaf     string        // a type of message that it does not understand
}

func (s *stage) viewer(name, session string) *viewer {
	s.t.Helper()
	engine := webrtc.SettingEngine{}
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		s.t.Fatal(err)
	}
	v := &viewer{
		stage: s, name: name, session: session, pc: pc, inbox: make(chan []byte, 1000),
		got: make(chan message, 100), packets: make(chan struct{}, 10000), last: make(chan struct{}, 10),
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			select {
			case v.packets <- struct{}{}:
			default:
			}
		}
	})
	pc.OnICECandidate(func(found *webrtc.ICECandidate) {
		m := message{Type: "candidate", Candidate: new(string)}
		if found != nil {
			init := found.ToJSON()
			m.Candidate, m.SDPMid, m.SDPMLineIndex = &init.Candidate, init.SDPMid, init.SDPMLineIndex
		}
		v.say(m)
	})
	s.mu.Lock()
	s.viewers[name] = v
	s.mu.Unlock()
	var reading sync.WaitGroup
	reading.Go(v.listen)
	s.t.Cleanup(func() {
		s.mu.Lock()
		delete(s.viewers, name)
		s.mu.Unlock()
		close(v.inbox)
		reading.Wait()
		pc.GracefulClose()
	})
	return v
}

func (v *viewer) say(m message) {
	m.Session = v.session
	payload, err := json.Marshal(m)
	if err != nil {
		v.stage.t.Error(err)
	}
	if err := v.stage.camera.handle(v.name, payload); err != nil {
		v.stage.t.Error(err)
	}
}

func (v *viewer) listen() {
	var early []webrtc.ICECandidateInit
	for payload := range v.inbox {
		var m message
		if err := json.Unmarshal(payload, &m); err != nil {
			v.stage.t.Errorf("the camera says %q: %v", payload, err)
			continue
		}
		if m.Session != v.session {
			v.stage.t.Errorf("session %q, want %q", m.Session, v.session)
		}
		if m.Type == v.deaf {
			continue
		}
		if m.Type == "candidate" {
			if *m.Candidate == "" {
				v.last <- struct{}{}
				continue
			}
			early = append(early, webrtc.ICECandidateInit{Candidate: *m.Candidate, SDPMid: m.SDPMid, SDPMLineIndex: m.SDPMLineIndex})
		}
		if m.Type == "answer" {
			v.offering.Lock()
			if err := v.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: m.SDP}); err != nil {
				v.stage.t.Error(err)
			}
			v.offering.Unlock()
		}
		if m.Type == "offer" {
			v.answer(m.SDP)
		}
		for v.pc.RemoteDescription() != nil && len(early) > 0 {
			if err := v.pc.AddICECandidate(early[0]); err != nil {
				v.stage.t.Error(err)
			}
			early = early[1:]
		}
		if m.Type != "candidate" {
			v.got <- m
		}
	}
}

func (v *viewer) answer(sdp string) {
	err := v.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp})
	if err != nil {
		v.stage.t.Error(err)
		return
	}
	answer, err := v.pc.CreateAnswer(nil)
	if err != nil {
		v.stage.t.Error(err)
		return
	}
	gathered := webrtc.GatheringCompletePromise(v.pc)
	if err := v.pc.SetLocalDescription(answer); err != nil {
		v.stage.t.Error(err)
	}
	<-gathered
	v.say(message{Type: "answer", SDP: answer.SDP})
}

// call makes an offer to receive video (and audio, which the camera has not).
func (v *viewer) call(options *webrtc.OfferOptions) {
	v.stage.t.Helper()
	if len(v.pc.GetTransceivers()) == 0 {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			_, err := v.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
			if err != nil {
				v.stage.t.Fatal(err)
			}
		}
	}
	offer, err := v.pc.CreateOffer(options)
	if err != nil {
		v.stage.t.Fatal(err)
	}
	v.offering.Lock() // the answer may come before the next line is done
	defer v.offering.Unlock()
	v.say(message{Type: "offer", SDP: offer.SDP})
	if err := v.pc.SetLocalDescription(offer); err != nil {
		v.stage.t.Fatal(err)
	}
}

func (v *viewer) expect(kind string) message {
	v.stage.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case m := <-v.got:
			if m.Type == kind {
				return m
			}
		case <-deadline:
			v.stage.t.Fatalf("%s never gets %s", v.name, kind)
		}
	}
}

// sees waits for some new packets of video.
func (v *viewer) sees() {
	v.stage.t.Helper()
	for len(v.packets) > 0 {
		<-v.packets
	}
	deadline := time.After(20 * time.Second)
	for range 30 {
		select {
		case <-v.packets:
		case <-deadline:
			v.stage.t.Fatalf("%s sees no picture", v.name)
		}
	}
}

func TestTwoViewersSeeThePictureUntilTheyHangUp(t *testing.T) {
	s := newStage(t, true)
	alice, bob := s.viewer("alice", "k1"), s.viewer("bob", "k1")
	alice.call(nil)
	bob.call(nil)
	if sdp := alice.expect("answer").SDP; strings.Contains(sdp, "a=candidate") {
		t.Error("a trickled answer has candidates in it")
	}
	alice.sees()
	bob.sees()
	<-alice.last // end of candidates
	alice.say(message{Type: "bye", Reason: "hangup"})
	s.expect("alice hung up after")
	bob.sees()
	bob.say(message{Type: "bye", Reason: "hangup"})
	s.callsEnd()
}

func TestConnectedViewerIsToldHowAndHowFast(t *testing.T) {
	s := newStage(t, true)
	s.viewer("alice", "k3").call(nil)
	s.expect("alice calls (session k3)")
	line := s.expect("alice watches: connected by")
	var path string
	var ms int
	if _, err := fmt.Sscanf(line, "alice watches: connected by %s after %d ms", &path, &ms); err != nil || !strings.HasSuffix(path, "/udp") {
		t.Errorf("%q: %v", line, err)
	}
}

func TestCameraMakesTheOfferWhenAskedToStart(t *testing.T) {
	s := newStage(t, true)
	alice := s.viewer("alice", "k1")
	alice.say(message{Type: "start"})
	alice.expect("offer")
	alice.sees()
	// A second start is a new offer, with ICE begun anew.
	alice.say(message{Type: "start"})
	alice.expect("offer")
	alice.sees()
}

func TestCandidatesBeforeTheDescriptionWait(t *testing.T) {
	s := newStage(t, true)
	alice := s.viewer("alice", "k1")
	alice.say(message{Type: "start"})
	early := "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host"
	alice.say(message{Type: "candidate", Candidate: &early})
	alice.say(message{Type: "candidate", Candidate: new(string)})
	// alice.answer, too, sends its candidates ahead of the answer.
	alice.sees()
}

func TestViewersOfferWinsOverTheCamerasOwn(t *testing.T) {
	s := newStage(t, true)
	// Someone asks for an offer, does not wait for it and makes one: alice is
	// let in only after the camera's own offer, which she so never sees.
	s.camera.handle("alice", []byte(`{"type":"start","session":"k1"}`))
	alice := s.viewer("alice", "k1")
	alice.deaf = "offer"
	alice.call(nil)
	alice.sees()
}

func TestSecondOfferRestartsICE(t *testing.T) {
	s := newStage(t, true)
	alice := s.viewer("alice", "k1")
	alice.call(nil)
	before := ufrag(alice.expect("answer").SDP)
	alice.sees()
	<-alice.last
	alice.call(&webrtc.OfferOptions{ICERestart: true})
	if after := ufrag(alice.expect("answer").SDP); after == before {
		t.Error("the answer to an ICE restart has the old credentials")
	}
	<-alice.last
	alice.sees()
	alice.call(nil) // and a plain renegotiation
	alice.expect("answer")
	alice.sees()
}

func ufrag(sdp string) string {
	_, rest, _ := strings.Cut(sdp, "a=ice-ufrag:")
	name, _, _ := strings.Cut(rest, "\r\n")
	return name
}

func TestWithoutTrickleTheAnswerHoldsAllCandidates(t *testing.T) {
	s := newStage(t, false)
	alice := s.viewer("alice", "k1")
	alice.call(nil)
	sdp := alice.expect("answer").SDP
	if !strings.Contains(sdp, "a=candidate") || !strings.Contains(sdp, "a=end-of-candidates") {
		t.Errorf("the answer is not whole:\n%s", sdp)
	}
	alice.sees()
	select {
	case <-alice.last:
		t.Error("the camera trickles all the same")
	default:
	}
	alice.call(&webrtc.OfferOptions{ICERestart: true})
	if sdp := alice.expect("answer").SDP; !strings.Contains(sdp, "a=candidate") {
		t.Errorf("the second answer is not whole:\n%s", sdp)
	}
	alice.sees()
}

func TestViewerWhoseSignalingIsGoneKeepsItsPicture(t *testing.T) {
	s := newStage(t, true)
	alice := s.viewer("alice", "k1")
	alice.call(nil)
	s.expect("alice watches")
	alice.say(message{Type: "bye", Reason: "gone"})
	s.expect("the picture goes on")
	alice.sees()
}

func TestCallThatIsNotConnectedEndsWithItsViewer(t *testing.T) {
	s := newStage(t, true)
	alice := s.viewer("alice", "k1")
	alice.say(message{Type: "start"}) // and then nothing comes of it
	s.camera.handle("alice", []byte(`{"type":"bye","session":"k1","reason":"gone"}`))
	s.expect("alice is gone")
	s.callsEnd()
}

func TestViewerThatClosesWithoutAByeIsHungUpOn(t *testing.T) {
	s := newStage(t, true)
	alice := s.viewer("alice", "k1")
	alice.call(nil)
	s.expect("alice watches")
	alice.pc.Close()
	// Its DTLS alert is one datagram; if that is lost ICE finds out, after 30 s.
	s.expect("alice closed the connection", "alice cannot be reached")
	s.callsEnd()
	alice.expect("bye")
}

func TestErrorOfTheServerEndsTheCallItNames(t *testing.T) {
	for _, code := range []int{404, 480} {
		s := newStage(t, true)
		s.camera.handle("alice", []byte(`{"type":"start","session":"k1"}`))
		s.camera.handle("bob", []byte(`{"type":"start","session":"k2"}`))
		s.camera.handle("_", fmt.Appendf(nil,
			`{"type":"error","code":%d,"reason":"offline","message":"alice is offline in garage","session":"k1","to":"alice","about":"offer"}`, code))
		s.expect("the server says: alice is offline in garage")
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		deadline := time.Now().Add(5 * time.Second)
		for s.camera.call(callID{"alice", "k1"}) != nil {
			if time.Now().After(deadline) {
				t.Fatal("the call goes on")
			}
			<-tick.C
		}
		if s.camera.call(callID{"bob", "k2"}) == nil {
			t.Error("bob's call is gone too")
		}
	}
}

func TestCameraThatIsReplacedGivesUp(t *testing.T) {
	s := newStage(t, true)
	err := s.camera.handle("_", []byte(`{"type":"error","code":409,"reason":"replaced"}`))
	if !errors.Is(err, errReplaced) {
		t.Errorf("%v, want errReplaced", err)
	}
}

func TestWhatBelongsToNoCallIsIgnored(t *testing.T) {
	s := newStage(t, true)
	for _, payload := range []string{
		`{"type":"candidate","session":"k9","candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host"}`,
		`{"type":"candidate","session":"k9"}`,
		`{"type":"answer","session":"k9","sdp":""}`,
		`{"type":"bye","session":"k9"}`,
		`{"type":"offer","sdp":"v=0"}`,
		`{"type":"msg","data":{"ptz":"left"}}`,
		`{"type":"x-dance","session":"k9"}`,
		`{"type":7}`, `[]`, `hello`, ``,
	} {
		if err := s.camera.handle("mallory", []byte(payload)); err != nil {
			t.Errorf("%s: %v", payload, err)
		}
	}
	s.callsEnd()
}

func TestOfferThatCannotBeAnsweredGetsABye(t *testing.T) {
	s := newStage(t, true)
	mallory := s.viewer("mallory", "k1")
	mallory.say(message{Type: "offer", SDP: "v=0\r\nnonsense"})
	if reason := mallory.expect("bye").Reason; reason != "failed" {
		t.Errorf("reason %q", reason)
	}
	s.callsEnd()
}

func TestOneViewerTooManyIsToldThatTheCameraIsBusy(t *testing.T) {
	s := newStage(t, true)
	for i := range maxCalls {
		s.camera.handle(fmt.Sprint("v", i), []byte(`{"type":"start","session":"k"}`))
	}
	late := s.viewer("late", "k1")
	late.say(message{Type: "start"})
	if reason := late.expect("bye").Reason; reason != "busy" {
		t.Errorf("reason %q", reason)
	}
}

func TestClosingCameraSaysByeToEveryViewer(t *testing.T) {
	s := newStage(t, true)
	alice, bob := s.viewer("alice", "k1"), s.viewer("bob", "k2")
	alice.call(nil)
	bob.call(nil)
	alice.expect("answer")
	bob.expect("answer")
	s.camera.close()
	for _, v := range []*viewer{alice, bob} {
		if reason := v.expect("bye").Reason; reason != "hangup" {
			t.Errorf("%s: reason %q", v.name, reason)
		}
	}
	s.camera.handle("alice", []byte(`{"type":"start","session":"k3"}`)) // too late
	s.callsEnd()
}

func TestHelloBringsICEServersAndTheyAreRenewed(t *testing.T) {
	s := newStage(t, true)
	server := s.viewer("_", "")
	s.camera.handle("_", []byte(`{"type":"hello","room":"garage","peer":"cam1","ttl":1,"max":65536,
		"iceServers":[{"urls":["turn:192.0.2.1:3478"],"username":"u","credential":"p"}]}`))
	s.camera.mu.Lock()
	servers := s.camera.iceServers
	s.camera.mu.Unlock()
	if len(servers) != 1 || servers[0].Username != "u" || servers[0].Credential != "p" {
		t.Errorf("%+v", servers)
	}
	server.expect("ice")
	s.camera.handle("_", []byte(`{"type":"ice","iceServers":[{"urls":7}]}`))
	s.expect("cannot be read")
}
