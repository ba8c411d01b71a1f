package main

import (
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

const maxWaiting = 64 // candidates that may come before their description

// call is one viewer. One goroutine, run, owns it: what the viewer says and
// what pion reports is put into todo and done in that order, so a candidate of
// ours never overtakes the description it belongs to.
type call struct {
	camera     *Camera
	id         callID
	iceServers []webrtc.ICEServer
	began      time.Time
	todo       chan func(*call)
	done       chan struct{}  // closed when run takes no more work
	helpers    sync.WaitGroup // goroutines that end with the peer connection

	// owned by run
	pc       *webrtc.PeerConnection
	waiting  []webrtc.ICECandidateInit // came before the description they belong to
	watching bool
	over     bool
}

func newCall(camera *Camera, id callID, servers []webrtc.ICEServer) *call {
	return &call{
		camera: camera, id: id, iceServers: servers, began: time.Now(),
		todo: make(chan func(*call), 256), done: make(chan struct{}),
	}
}

// run is the call's life.
func (k *call) run() {
	setup := time.NewTimer(setupLimit)
	defer setup.Stop()
	for !k.over {
		select {
		case work := <-k.todo:
			work(k)
		case <-setup.C:
			if !k.watching {
				k.hangUp("timeout", "gave up on %s: no connection after %v", k.id.peer, setupLimit)
			}
		case <-k.camera.closing:
			k.hangUp("hangup", "hung up on %s", k.id.peer)
		}
	}
	k.camera.forget(k)
	close(k.done) // before closing pion, whose callbacks wait for room in todo
	k.drop()
	k.helpers.Wait()
}

// offered takes the viewer's offer and answers. The first makes the
// connection, a later one renegotiates it or restarts ICE.
func (k *call) offered(m message) {
	if k.pc != nil && k.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
		k.drop() // both of us offered: the viewer's offer wins
	}
	if err := k.answer(m.SDP); err != nil {
		k.hangUp("failed", "cannot answer %s: %v", k.id.peer, err)
	}
}

func (k *call) answer(sdp string) error {
	if err := k.connect(); err != nil {
		return err
	}
	if err := k.setRemote(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return err
	}
	answer, err := k.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return k.describe(answer)
}

// start makes an offer, because the viewer asked for one.
func (k *call) start() {
	if err := k.offer(); err != nil {
		k.hangUp("failed", "cannot make %s an offer: %v", k.id.peer, err)
	}
}

func (k *call) offer() error {
	if err := k.connect(); err != nil {
		return err
	}
	if k.pc.SignalingState() != webrtc.SignalingStateStable {
		return nil // there is an offer under way
	}
	offer, err := k.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: k.pc.RemoteDescription() != nil})
	if err != nil {
		return err
	}
	return k.describe(offer)
}

// answered takes the viewer's answer to our offer.
func (k *call) answered(m message) {
	if k.pc == nil || k.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		return // delivered twice, or to an offer that has been overtaken
	}
	if err := k.setRemote(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: m.SDP}); err != nil {
		k.hangUp("failed", "%s's answer does not fit: %v", k.id.peer, err)
	}
}

// candidate takes one of the viewer's candidates, early ones too.
func (k *call) candidate(m message) {
	if m.Candidate == nil {
		return
	}
	init := webrtc.ICECandidateInit{
		Candidate: *m.Candidate, SDPMid: m.SDPMid,
		SDPMLineIndex: m.SDPMLineIndex, UsernameFragment: m.UsernameFragment,
	}
	if k.isEarly(init) {
		if len(k.waiting) == maxWaiting {
			k.waiting = k.waiting[1:]
		}
		k.waiting = append(k.waiting, init)
		return
	}
	k.add(init)
}

// isEarly says whether a candidate belongs to a description that is yet to
// come: the first, or that of an ICE restart, which has a new ufrag.
func (k *call) isEarly(candidate webrtc.ICECandidateInit) bool {
	if k.pc == nil || k.pc.RemoteDescription() == nil {
		return true
	}
	ufrag := ""
	if candidate.UsernameFragment != nil {
		ufrag = *candidate.UsernameFragment
	} else if _, extension, ok := strings.Cut(candidate.Candidate, " ufrag "); ok {
		ufrag, _, _ = strings.Cut(extension, " ")
	}
	// (Some write their SDP with bare line feeds.)
	sdp := strings.ReplaceAll(k.pc.RemoteDescription().SDP, "\r\n", "\n")
	return ufrag != "" && !strings.Contains(sdp, "a=ice-ufrag:"+ufrag+"\n")
}

// bye ends the call, unless only the viewer's signaling is lost.
func (k *call) bye(reason string) {
	if reason == "gone" && k.connected() {
		k.camera.say("%s's signaling is lost, the picture goes on", k.id.peer)
		return
	}
	verb := "hung up"
	if reason == "gone" {
		verb = "is gone"
	}
	k.camera.say("%s %s%s", k.id.peer, verb, k.lasted())
	k.over = true
}

// refused takes the server's word that something of ours did not arrive.
func (k *call) refused(m message) {
	lost := m.Code == 404 || m.Code == 480
	description := m.About == "offer" || m.About == "answer"
	if (lost && !k.connected()) || (description && !k.watching) {
		k.over = true // no bye: it would not arrive either
	}
}

// connect makes the peer connection, once.
func (k *call) connect() error {
	if k.pc != nil {
		return nil
	}
	pc, err := k.camera.api.NewPeerConnection(webrtc.Configuration{ICEServers: k.iceServers})
	if err != nil {
		return err
	}
	k.pc = pc
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		k.report(func(k *call) {
			if k.pc == pc {
				k.changed(state)
			}
		})
	})
	if k.camera.trickle {
		pc.OnICECandidate(func(found *webrtc.ICECandidate) {
			k.report(func(k *call) {
				if k.pc == pc {
					k.tellCandidate(found)
				}
			})
		})
	}
	transceiver, err := pc.AddTransceiverFromTrack(k.camera.track,
		webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return err
	}
	k.helpers.Go(func() { // pion sees the viewer's reports and NACKs only if they are read
		buffer := make([]byte, 1500)
		for {
			if _, _, err := transceiver.Sender().Read(buffer); err != nil {
				return
			}
		}
	})
	return nil
}

// setRemote sets the viewer's description and then adds the candidates that
// came before it.
func (k *call) setRemote(description webrtc.SessionDescription) error {
	if err := k.pc.SetRemoteDescription(description); err != nil {
		return err
	}
	early := k.waiting
	k.waiting = nil
	for _, candidate := range early {
		k.add(candidate)
	}
	return nil
}

func (k *call) add(candidate webrtc.ICECandidateInit) {
	if err := k.pc.AddICECandidate(candidate); err != nil {
		k.camera.say("a candidate of %s cannot be used", k.id.peer)
	}
}

// describe sets our description and sends it: at once, or without trickle when
// all candidates are in it.
func (k *call) describe(description webrtc.SessionDescription) error {
	var gathered <-chan struct{}
	if !k.camera.trickle {
		gathered = webrtc.GatheringCompletePromise(k.pc)
	}
	if err := k.pc.SetLocalDescription(description); err != nil {
		return err
	}
	if gathered != nil {
		select {
		case <-gathered:
			description = *k.pc.LocalDescription()
		case <-k.camera.closing:
			return nil
		}
	}
	k.tell(message{Type: description.Type.String(), SDP: description.SDP})
	return nil
}

// tellCandidate trickles one of our candidates; nil is the end of them.
func (k *call) tellCandidate(found *webrtc.ICECandidate) {
	m := message{Type: "candidate", Candidate: new(string)}
	if found != nil {
		init := found.ToJSON()
		m.Candidate, m.UsernameFragment = &init.Candidate, init.UsernameFragment
		m.SDPMid, m.SDPMLineIndex = init.SDPMid, init.SDPMLineIndex
	}
	k.tell(m)
}

// changed takes what pion says about the connection.
func (k *call) changed(state webrtc.PeerConnectionState) {
	switch state {
	case webrtc.PeerConnectionStateConnected:
		if k.watching {
			k.camera.say("%s watches again, by %s", k.id.peer, k.path())
			return
		}
		k.watching = true
		k.camera.say("%s watches: connected by %s after %d ms",
			k.id.peer, k.path(), time.Since(k.began).Milliseconds())
	case webrtc.PeerConnectionStateDisconnected:
		k.camera.say("%s hears nothing at the moment", k.id.peer)
	case webrtc.PeerConnectionStateFailed:
		k.hangUp("failed", "%s cannot be reached%s", k.id.peer, k.lasted())
	case webrtc.PeerConnectionStateClosed:
		k.hangUp("closed", "%s closed the connection%s", k.id.peer, k.lasted())
	}
}

// path is how the media goes: "host/udp", or "host-relay/udp" when the ends
// differ. Never the addresses.
func (k *call) path() string {
	for _, sender := range k.pc.GetSenders() {
		pair, err := sender.Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil || pair == nil {
			continue
		}
		way := pair.Local.Typ.String()
		if far := pair.Remote.Typ.String(); far != way {
			way += "-" + far
		}
		return way + "/" + pair.Local.Protocol.String()
	}
	return "an unknown way"
}

func (k *call) connected() bool {
	if k.pc == nil {
		return false
	}
	state := k.pc.ICEConnectionState()
	return state == webrtc.ICEConnectionStateConnected || state == webrtc.ICEConnectionStateCompleted
}

func (k *call) lasted() string {
	if !k.watching {
		return ""
	}
	return " after " + time.Since(k.began).Round(time.Second).String()
}

// hangUp ends the call from this side.
func (k *call) hangUp(reason, format string, args ...any) {
	k.camera.say(format, args...)
	k.tell(message{Type: "bye", Reason: reason})
	k.over = true
}

func (k *call) tell(m message) {
	m.Session = k.id.session
	k.camera.tell(k.id.peer, m)
}

// report is how pion's callbacks, on goroutines of their own, reach run.
func (k *call) report(work func(*call)) {
	select {
	case k.todo <- work:
	case <-k.done:
	}
}

// drop closes the peer connection, away from run: pion waits for its
// callbacks, and they may wait for run.
func (k *call) drop() {
	if k.pc == nil {
		return
	}
	pc := k.pc
	k.pc, k.waiting = nil, nil
	k.helpers.Go(func() { _ = pc.GracefulClose() })
}
