package whip

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// session is a call of an HTTP client with a device: the peer that was made for it,
// and its URL.
type session struct {
	handler *Handler
	path    string // of its URL; who knows it may end the session
	kind    string // "whep" or "whip"
	room    string
	device  string
	me      topics.Identity   // the peer that was made
	callID  string            // the session of its messages
	mark    [sha256.Size]byte // of the credentials it was opened with
	bus     bridge.Bus

	turn  chan struct{} // held by the PATCH that is being answered; guards what follows
	offer description   // as it was sent last
	ufrag string        // of the answer to it
	past  []string      // those of the offers before it
	etag  string

	mu       sync.Mutex  // guards what follows; taken by the inbox, never held while the bus is called
	presence []byte      // of the device, as it is; nil: there is none
	hello    []byte      // or a newer "ice"
	asked    bool        // the device was sent an offer
	call     *exchange   // the offer that is under way
	owed     []time.Time // the offers before it that were not answered: when they were given up
	live     bool        // it was answered
	ended    error       // why it is over; nil: it is not
}

// newSession makes a session of id with a device, if id may have one. It is not
// on the bus.
func (h *Handler) newSession(id topics.Identity, kind, room, device string) (*session, error) {
	name := strings.ToLower(rand.Text()[:16])
	me, err := id.Guest("http-"+name, room, device)
	if err != nil {
		return nil, err
	}
	return &session{
		handler: h, kind: kind, room: room, device: device, me: me, callID: name,
		path: "/" + kind + "/" + room + "/" + device + "/" + rand.Text(), // of 130 bits
		turn: make(chan struct{}, 1),
	}, nil
}

// enter makes the session a peer of the room, if the device is known there.
func (s *session) enter() error {
	h := s.handler
	bus, err := h.cfg.Connect(s.me, "http", bridge.InboxFunc(s.inbox))
	if err != nil {
		return err
	}
	s.bus = bus
	filters := s.me.Filters(h.cfg.Root, s.room)
	inbox := len(filters) - 1
	if err := bus.Subscribe(filters[:inbox]...); err != nil { // the device's presence
		return err
	}
	device := s.status()
	switch {
	case !device.known:
		return topics.Errorf(topics.NotFound, "there is no %s in %s", s.device, s.room)
	case device.offers:
		return unprocessable("%s makes the offers itself, and who plays or sends by HTTP makes them, too: it can be called by WebSocket or MQTT only", s.device)
	}
	own := topics.Address{Room: s.room, Kind: topics.Presence, Src: s.me.Name}
	if err := bus.Publish(own, []byte(`{"online":true,"role":"`+s.kind+`"}`)); err != nil {
		return err
	}
	return bus.Subscribe(filters[inbox])
}

// status is what is to be known of a device's presence.
type status struct {
	known, online, offers bool
	trickle               *bool // nil: it does not say
}

func (s *session) status() status {
	s.mu.Lock()
	presence := s.presence
	s.mu.Unlock()
	d := status{known: presence != nil}
	for m := range topics.Members(presence) {
		is := string(m.Value) == "true"
		switch string(m.Name) {
		case "online":
			d.online = is
		case "offers":
			d.offers = is
		case "trickle":
			if is || string(m.Value) == "false" {
				d.trickle = &is
			}
		}
	}
	return d
}

// servers are the ICE servers that the made peer was told of.
func (s *session) servers() []topics.ICEServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hello topics.Hello
	if json.Unmarshal(s.hello, &hello) != nil {
		return nil
	}
	return hello.ICEServers
}

// say sends a message to the device.
func (s *session) say(m any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return err
	}
	to := topics.Address{Room: s.room, Kind: topics.Direct, Dst: s.device, Src: s.me.Name}
	return s.bus.Publish(to, bytes.TrimRight(b.Bytes(), "\n"))
}

// inbox takes what arrives for the made peer.
func (s *session) inbox(d topics.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended != nil:
		return errEnding
	case d.Kind == topics.Presence && d.Src == s.device:
		s.presence = d.Payload
		if len(d.Payload) == 0 {
			s.presence = nil
		}
	case d.Kind == topics.Direct && d.Src == topics.Server:
		s.told(d)
	case d.Kind == topics.Direct:
		return s.heard(d)
	}
	return nil
}

var (
	errEnding = topics.Errorf(topics.Offline, "the session is ending")
	errHungUp = topics.Errorf(topics.NotFound, "the session has ended: its client hung up")
	errDeaf   = topics.Errorf(topics.Busy, "this peer is an HTTP client: it takes answers, candidates and bye")
)

// told takes what the server says.
func (s *session) told(d topics.Delivery) {
	var e struct {
		Code       topics.Code
		Message    string
		RetryAfter float64
		Session    string
		About      string
	}
	switch d.Type {
	case topics.TypeHello, topics.TypeICE: // the second before credentials end
		s.hello = d.Payload
		return
	case topics.TypeError:
		_ = json.Unmarshal(d.Payload, &e) // the server's own
	default:
		return
	}
	why := topics.Errorf(e.Code, "%s", e.Message)
	why.RetryAfter = e.RetryAfter
	switch {
	case d.Room == "", e.About == "": // the bus has ended it, or it may not be here any more
		s.end(why)
	case e.About == topics.TypeOffer && e.Session == s.callID && s.call != nil:
		s.call.fail(why)
	}
}

// heard takes what a peer says. The error is for who says what nobody could hear.
func (s *session) heard(d topics.Delivery) error {
	if d.Src != s.device || d.Session != s.callID {
		return errDeaf
	}
	switch d.Type {
	case topics.TypeAnswer, topics.TypeCandidate:
		now := time.Now()
		switch {
		case d.Type == topics.TypeAnswer && s.isLate(now):
			if s.call != nil { // what came before it was of the same ICE
				s.call.late, s.call.candidates = true, nil
			}
		case s.call != nil: // a candidate that is late cannot reach its client
			s.call.take(d, now)
		}
	case topics.TypeBye:
		s.end(s.byeError(d.Payload))
	default:
		return errDeaf
	}
	return nil
}

// owedFor is how long the answer to an offer that was given up may still come. A
// device that has not answered by then never will, and its next answer is to the next
// offer.
const owedFor = 30 * time.Second

// isLate reports whether an answer is to an offer that was given up: a device answers
// in the order in which it is asked, and its messages keep theirs.
func (s *session) isLate(now time.Time) bool {
	s.expire(now)
	if len(s.owed) == 0 {
		return false
	}
	s.owed = s.owed[1:]
	return true
}

// expire forgets the offers that never will be answered.
func (s *session) expire(now time.Time) {
	s.owed = slices.DeleteFunc(s.owed, func(since time.Time) bool { return now.Sub(since) > owedFor })
}

// byeError is what a bye means to a client that waits for an answer.
func (s *session) byeError(payload []byte) error {
	var bye struct{ Reason string }
	_ = json.Unmarshal(payload, &bye) // "" will do
	switch bye.Reason {
	case "busy":
		return topics.Errorf(topics.Busy, "%s is busy", s.device)
	case "gone":
		return topics.Errorf(topics.Offline, "%s has gone", s.device)
	default:
		return unprocessable("%s hung up without an answer, for the reason %s", s.device, bridge.Excerpt(bye.Reason))
	}
}

// end is over for the inbox, which must not call the bus.
func (s *session) end(why error) {
	s.ended = why
	if s.call != nil {
		s.call.fail(why)
	}
	if !s.live {
		return // who opens it sees to the rest
	}
	s.log("session ended", "why", why)
	s.handler.forget(s, func() { s.bus.Close(true) })
}

// answered puts the session behind its URL.
func (s *session) answered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	if !s.handler.add(s) {
		return errClosing
	}
	s.live = true
	s.log("session opened")
	return nil
}

// over marks the session as ended, and reports whether it was not.
func (s *session) over(why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return false
	}
	s.ended = why
	if s.call != nil {
		s.call.fail(why)
	}
	if s.live {
		s.log("session ended", "why", why)
		s.handler.forget(s, nil)
	}
	return true
}

// hangUp ends the session from the client's side, and reports whether it was there.
func (s *session) hangUp(reason string) bool {
	if !s.over(errHungUp) {
		return false
	}
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	if asked {
		_ = s.say(map[string]string{"type": topics.TypeBye, "session": s.callID, "reason": reason}) // it may be gone, too
	}
	s.bus.Close(true)
	return true
}

// await waits for the turn of a request.
func (s *session) await(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return topics.Errorf(topics.Busy, "another request of this session is waiting for its answer")
	}
}

func (s *session) log(what string, more ...any) {
	s.handler.cfg.Logger.Info(what, append([]any{"room", s.room, "peer", s.me.Name, "account", s.me.Account,
		"with", s.device, "session", s.callID, "via", s.kind}, more...)...)
}

// gone is what a request finds where there is no session.
func gone() error {
	return topics.Errorf(topics.NotFound, "there is no such session: it has ended, or never was")
}
