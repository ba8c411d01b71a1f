package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

const (
	server     = "_"              // the peer that is the signaling server itself
	maxCalls   = 16               // viewers at once; another is told that we are busy
	setupLimit = 30 * time.Second // a call that has no media by then is given up
)

// message is any message of the protocol that a camera sends or understands.
// The members are those of the W3C dictionaries, so what arrives can be handed
// to the WebRTC library as it is.
type message struct {
	Type    string `json:"type"`
	Session string `json:"session,omitempty"`
	SDP     string `json:"sdp,omitempty"` // offer, answer

	Candidate        *string `json:"candidate,omitempty"` // candidate; "" is the end of candidates
	SDPMid           *string `json:"sdpMid,omitempty"`
	SDPMLineIndex    *uint16 `json:"sdpMLineIndex,omitempty"`
	UsernameFragment *string `json:"usernameFragment,omitempty"`

	Reason string `json:"reason,omitempty"` // bye, error

	Code    int    `json:"code,omitempty"` // error
	Message string `json:"message,omitempty"`
	About   string `json:"about,omitempty"`

	ICEServers json.RawMessage `json:"iceServers,omitempty"` // hello, ice
	TTL        int             `json:"ttl,omitempty"`
}

// Camera shows one track to everyone who calls. It hears messages through
// handle and speaks through send; it knows nothing about MQTT.
type Camera struct {
	api     *webrtc.API
	track   *webrtc.TrackLocalStaticSample
	trickle bool
	send    func(to string, payload []byte) // does not wait for the network
	say     func(format string, args ...any)
	closing chan struct{} // closed by close: every call hangs up
	running sync.WaitGroup

	mu         sync.Mutex // guards what follows
	calls      map[callID]*call
	closed     bool
	iceServers []webrtc.ICEServer
	renewal    *time.Timer // asks for ICE servers before their credentials expire
}

// callID names a call: two viewers may choose the same session.
type callID struct{ peer, session string }

func newCamera(trickle bool, send func(to string, payload []byte), say func(string, ...any)) (*Camera, error) {
	track, err := webrtc.NewTrackLocalStaticSample(
		webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, "video", "camera")
	if err != nil {
		return nil, err
	}
	api, err := newAPI()
	if err != nil {
		return nil, err
	}
	return &Camera{
		api: api, track: track, trickle: trickle, send: send, say: say,
		closing: make(chan struct{}), calls: map[callID]*call{},
	}, nil
}

// newAPI is pion with the codecs of this camera and no others, as firmware has
// it: the answer stays near 1 KB, where a browser's list of codecs takes 6.
func newAPI() (*webrtc.API, error) {
	codecs := &webrtc.MediaEngine{}
	err := errors.Join(
		codecs.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeVP8, ClockRate: 90000,
				RTCPFeedback: []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}},
			},
			PayloadType: 96,
		}, webrtc.RTPCodecTypeVideo),
		// Never sent. But a viewer may ask for sound too, and pion refuses what
		// it has no codec for in a way that other pions cannot negotiate again
		// (v4.2.20: the refused section has no a=mid).
		codecs.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2,
			},
			PayloadType: 111,
		}, webrtc.RTPCodecTypeAudio),
	)
	if err != nil {
		return nil, err
	}
	interceptors := &interceptor.Registry{} // sends lost packets again, reports
	if err := webrtc.RegisterDefaultInterceptors(codecs, interceptors); err != nil {
		return nil, err
	}

	network := webrtc.SettingEngine{}
	// For viewers on this very machine, when it has no other network.
	network.SetIncludeLoopbackCandidate(true)
	// Browsers hide their addresses behind names that end in .local. Ask for
	// them by multicast DNS (pion's default; where multicast is blocked, the
	// browser still finds us, because our own addresses are not hidden).
	network.SetICEMulticastDNSMode(ice.MulticastDNSModeQueryOnly)

	return webrtc.NewAPI(webrtc.WithMediaEngine(codecs),
		webrtc.WithInterceptorRegistry(interceptors), webrtc.WithSettingEngine(network)), nil
}

// errReplaced: two cameras of one name would push each other out for ever.
var errReplaced = errors.New("somebody else is in the room under this camera's name now")

// handle takes one message from a peer's topic. It never blocks: it runs on
// the MQTT client's only reading goroutine. An error means that the camera has
// lost its place in the room.
func (c *Camera) handle(from string, payload []byte) error {
	var m message
	if err := json.Unmarshal(payload, &m); err != nil {
		c.say("%s sends what is no message: %v", from, err)
		return nil
	}
	switch {
	case from == server && m.Type == "error" && m.Code == 409:
		return errReplaced
	case from == server:
		c.handleServer(m)
	case m.Session != "": // not for msg and x-...: nothing that this camera does
		c.handlePeer(from, m)
	}
	return nil
}

// handlePeer takes what a viewer says in a call.
func (c *Camera) handlePeer(from string, m message) {
	id := callID{from, m.Session}
	switch m.Type {
	case "offer":
		c.post(c.open(id), func(k *call) { k.offered(m) })
	case "start":
		c.post(c.open(id), (*call).start)
	case "answer":
		c.post(c.call(id), func(k *call) { k.answered(m) })
	case "candidate":
		c.post(c.call(id), func(k *call) { k.candidate(m) })
	case "bye":
		k := c.call(id)
		if m.Reason != "gone" {
			c.forget(k) // so that an offer right behind begins a new call
		}
		c.post(k, func(k *call) { k.bye(m.Reason) })
	}
}

// handleServer takes what the server itself says.
func (c *Camera) handleServer(m message) {
	switch m.Type {
	case "hello", "ice":
		c.setICEServers(m)
	case "error":
		for _, k := range c.callsOf(m) {
			c.post(k, func(k *call) { k.refused(m) })
		}
		if m.About != "bye" { // a bye to someone who is gone already: no news
			c.say("the server says: %s", inWords(m))
		}
	}
}

// callsOf is the call that an error names. The server names its session and
// whom it was for; the session is enough, because errors are rare and a
// session that two viewers share is rarer.
func (c *Camera) callsOf(m message) (calls []*call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.calls {
		if m.Session != "" && id.session == m.Session {
			calls = append(calls, k)
		}
	}
	return calls
}

// inWords is an error as a person wants to read it.
func inWords(m message) string {
	text := m.Message
	if text == "" {
		text = m.Reason
	}
	text += fmt.Sprintf(" (%d %s", m.Code, m.Reason)
	if m.About != "" {
		text += ", about the " + m.About
	}
	if m.Session != "" {
		text += " of session " + m.Session
	}
	return text + ")"
}

func (c *Camera) setICEServers(m message) {
	var servers []webrtc.ICEServer
	if len(m.ICEServers) > 0 {
		if err := json.Unmarshal(m.ICEServers, &servers); err != nil {
			c.say("the server's ICE servers cannot be read: %v", err)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.iceServers = servers
	if c.renewal != nil {
		c.renewal.Stop()
		c.renewal = nil
	}
	if m.TTL > 0 && len(servers) > 0 && !c.closed {
		c.renewal = time.AfterFunc(time.Duration(m.TTL)*time.Second*3/4, func() {
			c.tell(server, message{Type: "ice"})
		})
	}
}

// open is the call of that name, begun if there is none; nil when it cannot be.
func (c *Camera) open(id callID) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.calls[id]; k != nil || c.closed {
		return k
	}
	if len(c.calls) >= maxCalls {
		c.say("%s calls, but %d watch already", id.peer, maxCalls)
		c.tell(id.peer, message{Type: "bye", Session: id.session, Reason: "busy"})
		return nil
	}
	c.say("%s calls (session %s)", id.peer, id.session)
	k := newCall(c, id, c.iceServers)
	c.calls[id] = k
	c.running.Go(k.run)
	return k
}

// call is the call of that name, or nil.
func (c *Camera) call(id callID) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[id]
}

// forget takes an ended call (or nil) off the list.
func (c *Camera) forget(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k != nil && c.calls[k.id] == k {
		delete(c.calls, k.id)
	}
}

// post hands work to a call's goroutine.
func (c *Camera) post(k *call, work func(*call)) {
	if k == nil {
		return
	}
	select {
	case k.todo <- work:
	case <-k.done:
	default:
		c.say("%s sends faster than this camera can follow; a message is dropped", k.id.peer)
	}
}

func (c *Camera) tell(to string, m message) {
	payload, err := json.Marshal(m)
	if err != nil {
		c.say("cannot write a message: %v", err)
		return
	}
	c.send(to, payload)
}

// close hangs up on everyone and waits until all is gone.
func (c *Camera) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.closing)
	}
	if c.renewal != nil {
		c.renewal.Stop()
	}
	c.mu.Unlock()
	c.running.Wait()
}
