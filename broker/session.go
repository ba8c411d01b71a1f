package broker

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/mochi-mqtt/server/v2/packets"
)

// message is what travels through a room: a delivery, and what only MQTT
// clients see of it.
type message struct {
	topics.Delivery
	topic      string              // the address as a topic; made when first needed
	qos        byte                // as published
	retained   bool                // as published
	properties *packets.Properties // of MQTT 5 that travel with it; nil for none
	sender     *Session            // nil when the server says it
	opens      bool                // it began its session
}

// receiver is the door's end of a session.
type receiver interface {
	// deliver takes a message, as r says, without waiting. The error is
	// errClosed, errFull or another [*topics.Error].
	deliver(m *message, r reception) error
	// end closes the connection for a reason that the client is told.
	end(why end)
}

// reception is how a session gets a message: what its subscriptions say.
type reception struct {
	qos    byte
	ids    []int // subscription identifiers (MQTT 5, 3.8.2.1.2)
	retain bool
}

var (
	errClosed error = topics.Errorf(topics.Unavailable, "the connection is closed")
	errFull   error = topics.Errorf(topics.Busy, "the connection's queue is full")
)

// end is why the server ends a connection.
type end struct {
	code byte // reason code of an MQTT 5 DISCONNECT, 3.14.2.1
	text string
	why  *topics.Error // for a door that is to end the connection; nil if it knows already
}

var (
	endReplaced = end{code: 0x8E, text: "another connection of the same identity took over"}
	endShutdown = end{code: 0x8B, text: "the server is shutting down"}
	endSlow     = end{code: 0x97, text: "the connection does not take what it subscribed to"}
)

// subscription is one filter of a session.
type subscription struct {
	text     string
	filter   topics.Filter
	qos      byte
	id       int  // subscription identifier, 0 for none
	noLocal  bool // MQTT 5, 3.8.3.1
	retain   bool // retain as published
	handling byte // retain handling: 0 send retained, 1 if the subscription is new, 2 do not
}

// maxFilters is how many filters an MQTT connection may hold. The other doors
// subscribe to what a room needs, and have a limit of rooms.
const maxFilters = 64

// Session is one connection on the bus.
type Session struct {
	broker   *Broker
	peer     string // the name of its identity, in every room
	device   bool   // which stays listed when it is offline
	via      string
	name     string // for the log: "m17"
	receiver receiver
	will     *message                        // asked for at CONNECT; published when the peer is given up
	identity atomic.Pointer[topics.Identity] // what it may do by now; nil: nothing any more
	filters  atomic.Int32                    // how many subscriptions it holds

	mu      sync.Mutex // guards what follows; taken with a room's lock held, never the other way
	rooms   map[*room]struct{}
	watcher *member     // what it subscribed to across rooms
	expiry  *time.Timer // of its credentials
	renewal *time.Timer // of its ICE servers
	closed  bool
}

// viaMQTT is the door "mqtt" of a presence.
const viaMQTT = "mqtt"

func (b *Broker) newSession(id topics.Identity, via string, r receiver) *Session {
	s := &Session{
		broker: b, peer: id.Name, device: id.Device, via: via, receiver: r,
		name:  via[:1] + strconv.FormatUint(b.conns.Add(1), 10),
		rooms: make(map[*room]struct{}),
	}
	b.mu.Lock()
	b.sessions[s] = struct{}{}
	b.mu.Unlock()
	s.Renew(id)
	return s
}

// countFilter counts one more filter, if there may be one.
func (s *Session) countFilter() error {
	if s.filters.Add(1) > maxFilters && s.via == viaMQTT {
		s.filters.Add(-1)
		return topics.Errorf(topics.Busy, "a connection holds at most %d filters", maxFilters)
	}
	return nil
}

// Publish sends payload to a; see bridge.Bus.
func (s *Session) Publish(a topics.Address, payload []byte) error {
	return s.publish(&message{Delivery: topics.Delivery{Address: a, Payload: payload}, qos: 1})
}

func (s *Session) publish(m *message) error {
	m.sender = s
	if !s.may().MayPublish(m.Address) {
		return s.denied(m)
	}
	if m.Kind == topics.Presence {
		return s.present(m)
	}
	var err error
	m.Message, err = topics.CheckMessage(m.Payload, m.Address)
	if len(m.Payload) > s.broker.MaxMessage {
		return topics.Errorf(topics.TooLarge, "the message has %d bytes, the limit is %d", len(m.Payload), s.broker.MaxMessage).Of(m.Message, m.Dst)
	}
	if err != nil {
		return err
	}
	r := s.broker.enter(m.Room, false)
	if r == nil {
		return s.absent(m)
	}
	defer r.leave()
	from := r.members[s]
	if from == nil || from.peer == nil {
		return s.absent(m)
	}
	if m.Kind == topics.All {
		r.say(m, from)
		return nil
	}
	if err := r.direct(m, from); err != nil {
		told := topics.AsError(err).Of(m.Message, m.Dst)
		s.broker.lost(m, told)
		return told
	}
	return nil
}

// denied says what is not granted, in words.
func (s *Session) denied(m *message) error {
	info, _ := topics.CheckMessage(m.Payload, m.Address)
	switch {
	case m.Kind == topics.Wake:
		return topics.Errorf(topics.Forbidden, "only the server publishes under wake/").Of(info, m.Dst)
	case m.Src != s.peer:
		return topics.Errorf(topics.Forbidden, "%s may not speak as %s in %s: the last level of the topic is the sender", s.peer, m.Src, m.Room).Of(info, m.Dst)
	default:
		return topics.Errorf(topics.Forbidden, "%s may not publish to %s in %s", s.peer, s.broker.Root.Topic(m.Address), m.Room).Of(info, m.Dst)
	}
}

func (s *Session) absent(m *message) error {
	return topics.Errorf(topics.Forbidden, "%s is not in %s: join first, by subscribing to %s", s.peer, m.Room,
		s.broker.Root.Inbox(m.Room, s.peer)).Of(m.Message, m.Dst)
}

// present takes a presence that the client publishes: it joins, changes its
// presence, or leaves.
func (s *Session) present(m *message) error {
	about := topics.Message{Type: "presence"}
	if m.Src != s.peer {
		return topics.Errorf(topics.Forbidden, "the presence of %s is made from its own connection", m.Src).Of(about, "")
	}
	status, err := topics.CheckPresence(m.Payload)
	if err != nil {
		return topics.AsError(err).Of(about, "")
	}
	r := s.broker.enter(m.Room, status.Online)
	if r == nil {
		return nil // it is not there: nothing to leave
	}
	defer r.leave()
	if !status.Online {
		in := r.members[s]
		if in != nil && in.peer != nil {
			r.giveUp(in.peer, "left")
		}
		if in != nil && len(m.Payload) == 0 && s.via != viaMQTT {
			r.drop(in) // a door has no UNSUBSCRIBE: to leave is to stop listening
		}
		return nil
	}
	if err := r.join(s, m.Payload, status); err != nil {
		return topics.AsError(err).Of(about, "")
	}
	return nil
}

// Subscribe adds filters; see bridge.Bus.
func (s *Session) Subscribe(filters ...string) error {
	var errs []error
	for _, f := range filters {
		errs = append(errs, s.subscribe(subscription{text: f, qos: 1}))
	}
	return errors.Join(errs...)
}

func (s *Session) subscribe(sub subscription) error {
	var err error
	sub.filter, err = s.broker.Root.ParseFilter(sub.text)
	if err != nil {
		if errors.Is(err, topics.ErrOutside) {
			return s.broker.outside.subscribe(s, sub)
		}
		return err
	}
	if !s.may().MaySubscribe(sub.filter) {
		return topics.Errorf(topics.Forbidden, "%s may not subscribe to %q: it is wider than the grant", s.peer, sub.text)
	}
	name := sub.filter.Room()
	if name == "" {
		return s.subscribeAcross(sub)
	}
	r := s.broker.enter(name, true)
	defer r.leave()
	in, err := r.member(s)
	if err != nil {
		return err
	}
	isNew, err := in.add(sub)
	if err != nil {
		return err
	}
	r.recount(in)
	if sub.handling == 0 || sub.handling == 1 && isNew {
		r.snapshot(in, sub)
	}
	if sub.filter.Inbox() != s.peer || !s.may().MayJoin(name) {
		return nil
	}
	if in.peer != nil {
		if s.via != viaMQTT {
			in.greeted = false // a door that joins anew wants to tell its client the same again
		}
		r.opened(in)
		return nil
	}
	return r.join(s, nil, topics.Status{Online: true})
}

// subscribeAcross adds a filter whose room is a wildcard.
func (s *Session) subscribeAcross(sub subscription) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	if s.watcher == nil {
		s.watcher = &member{session: s}
	}
	next := s.watcher.clone()
	isNew, err := next.add(sub)
	s.watcher = next
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.broker.watch(next)
	if sub.handling == 2 || sub.handling == 1 && !isNew {
		return nil
	}
	s.broker.rooms.Range(func(_, found any) bool {
		r := found.(*room)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.snapshot(next, sub)
		return true
	})
	return nil
}

// unsubscribe removes a filter and reports whether there was one.
func (s *Session) unsubscribe(text string) bool {
	f, err := s.broker.Root.ParseFilter(text)
	switch {
	case errors.Is(err, topics.ErrOutside):
		return s.broker.outside.unsubscribe(s, text)
	case err != nil:
		return false
	}
	if f.Room() != "" {
		r := s.broker.enter(f.Room(), false)
		if r == nil {
			return false
		}
		defer r.leave()
		in := r.members[s]
		if in == nil || !in.remove(text) {
			return false
		}
		r.recount(in)
		if len(in.subs) == 0 && in.peer == nil {
			r.drop(in)
		}
		return true
	}
	s.mu.Lock()
	if s.watcher == nil {
		s.mu.Unlock()
		return false
	}
	next := s.watcher.clone()
	was := next.remove(text)
	s.watcher = next
	s.mu.Unlock()
	s.broker.watch(next)
	return was
}

// Close ends the session; see bridge.Bus.
func (s *Session) Close(left bool) { s.close(left, !left) }

// close ends the session. Its last will is published, when its peer is given up,
// only if will is set (MQTT 5, 3.1.2.5).
func (s *Session) close(left, will bool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for _, t := range []*time.Timer{s.expiry, s.renewal} {
		if t != nil {
			t.Stop()
		}
	}
	rooms := slices.Collect(maps.Keys(s.rooms))
	watcher := s.watcher
	s.mu.Unlock()
	s.broker.mu.Lock()
	delete(s.broker.sessions, s)
	s.broker.mu.Unlock()
	for _, r := range rooms {
		r.mu.Lock()
		r.part(s, left, will)
		r.leave()
	}
	if watcher != nil {
		s.broker.unwatch(watcher)
	}
	s.broker.outside.leave(s)
	if in, ok := s.receiver.(*inProcess); ok {
		in.close()
	}
}

// forget takes r off the rooms of s and reports whether it was the last.
func (s *Session) forget(r *room) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rooms, r)
	return len(s.rooms) == 0
}

// inProcess is the receiver of a session that another door of this program
// holds.
type inProcess struct {
	mu     sync.Mutex // one delivery at a time: rooms deliver independently of each other
	inbox  func(topics.Delivery) error
	closed bool
}

func (p *inProcess) deliver(m *message, r reception) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	d := m.Delivery
	d.Retained = r.retain
	if p.inbox(d) != nil {
		return errFull
	}
	return nil
}

// end tells the door, by an error that is about no room. Of a takeover it knows
// from the error in its inbox, and of a shutdown from the program.
func (p *inProcess) end(e end) {
	if e.why != nil {
		_ = p.deliver(&message{Delivery: topics.Delivery{
			Address: topics.Address{Kind: topics.Direct, Src: topics.Server},
			Message: topics.Message{Type: topics.TypeError},
			Payload: e.why.Payload(),
		}}, reception{})
	}
}

func (p *inProcess) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
