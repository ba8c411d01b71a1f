package broker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// Session is one connection on the bus.
type Session struct {
	broker   *Broker
	peer     string // the name of its identity, in every room
	device   bool   // which stays listed when it is offline
	via      string
	name     string // for the log: "m17"
	receiver receiver
	will     *message                        // asked for at CONNECT, nil for none; published when the peer is given up
	identity atomic.Pointer[topics.Identity] // what it may do by now; nil: nothing any more
	former   atomic.Pointer[topics.Identity] // what it could do before it was expelled
	filters  atomic.Int32                    // how many subscriptions it holds
	messages *budget
	joins    *budget
	alive    context.Context // until Close
	ended    context.CancelFunc

	mu      sync.Mutex // guards what follows; taken with a room's lock held, never the other way
	rooms   map[*room]struct{}
	watcher *member     // what it subscribed to across rooms
	expiry  *time.Timer // of its credentials
	renewal *time.Timer // of its ICE servers
	lost    *time.Timer // runs while it is suspended
	missed  bool        // more than was kept for it
	retired bool        // it is ending, since another took over: it enters no room any more
	closed  bool
	slow    bool   // it is ending, since it does not take what it subscribed to
	why     string // its connection was lost, if that is known
}

// viaMQTT is the door "mqtt" of a presence.
const viaMQTT = "mqtt"

// newSession opens a session, unless the identity was revoked while its
// credentials were looked at.
func (b *Broker) newSession(id topics.Identity, via string, r receiver, will *message) (*Session, error) {
	s := &Session{
		broker: b, peer: id.Name, device: id.Device, via: via, receiver: r, will: will,
		name:     via[:1] + strconv.FormatUint(b.conns.Add(1), 10),
		rooms:    make(map[*room]struct{}),
		messages: newBudget(b.Rate, b.Burst),
		joins:    newBudget(b.Joins, b.Joins),
	}
	s.alive, s.ended = context.WithCancel(context.Background())
	b.mu.Lock()
	b.sessions[s] = struct{}{}
	b.mu.Unlock()
	s.swap(nil, id)
	if err := s.recheck(); err != nil {
		s.Close(true)
		return nil, err
	}
	return s, nil
}

// Publish sends payload to a; see bridge.Bus.
func (s *Session) Publish(a topics.Address, payload []byte) error {
	said, _ := topics.Read(payload, nil)
	return s.said(a, payload, &said)
}

// Say sends a message that has been read to a; see bridge.Bus.
func (s *Session) Say(a topics.Address, said topics.Reading) error {
	return s.said(a, said.Text(), &said)
}

func (s *Session) said(a topics.Address, payload []byte, said *topics.Reading) error {
	err := s.publish(&message{Delivery: topics.Delivery{Address: a, Payload: payload}, qos: 1}, said)
	if err != nil {
		s.broker.show(a.Room, s.peer, topics.AsError(err))
	}
	return err
}

// publish takes m, whose payload was read as said. It knows nothing of a text that
// nobody has read, so none gets into a room.
func (s *Session) publish(m *message, said *topics.Reading) error {
	m.sender = s
	if err := s.spend(s.messages, "messages"); err != nil {
		info, _ := said.Check(m.Address)
		return err.Of(info, m.Dst)
	}
	if !s.may().MayPublish(m.Address) {
		return s.denied(m, said)
	}
	if m.Kind == topics.Presence {
		return s.present(m)
	}
	var err error
	m.Message, err = said.Check(m.Address)
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
	me := r.peers[m.Src]
	if me == nil {
		me = from.peer // an admin speaks as somebody who is not there
	}
	if err := r.direct(m, me, from); err != nil {
		told := topics.AsError(err).Of(m.Message, m.Dst)
		s.broker.lost(m, told)
		return told
	}
	return nil
}

// spend takes one from a budget, and cuts off who will not keep to it.
func (s *Session) spend(b *budget, what string) *topics.Error {
	err, cut := b.spend(s.alive, what)
	if cut {
		s.broker.Logger.Warn("cut off", "peer", s.peer, "conn", s.name, "via", s.via, "why", err.Message)
		s.receiver.end(end{code: 0x96, text: err.Message, why: err})
	}
	return err
}

// denied says what is not granted, in words.
func (s *Session) denied(m *message, said *topics.Reading) error {
	info, _ := said.Check(m.Address)
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
	if status.Online {
		if !s.carries(m.Room) {
			if err := s.spend(s.joins, "joins"); err != nil {
				return err.Of(about, "")
			}
		}
	}
	r := s.broker.enter(m.Room, status.Online)
	if r == nil {
		return nil // it is not there: nothing to leave
	}
	defer r.leave()
	if !status.Online {
		in := r.members[s]
		if in != nil && in.peer != nil {
			if s.via == viaMQTT { // a client of another door leaves when it has what it was sent
				r.reclaim(in)
			}
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

// Close ends the session; see bridge.Bus.
func (s *Session) Close(left bool) { s.close(left, !left, nil) }

// close ends the session. Its last will is published, when its peer is given up or
// at once if it is outside the rooms, only if will is set (MQTT 5, 3.1.2.5). Its
// client is told why, unless that is nil.
func (s *Session) close(left, will bool, why *end) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	if why != nil {
		s.why = why.text
	}
	s.ended()
	for _, t := range []*time.Timer{s.expiry, s.renewal, s.lost} {
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
	s.broker.outside.endWill(s, will)
	if why != nil {
		s.receiver.end(*why)
	}
	if in, ok := s.receiver.(*inProcess); ok {
		in.close()
	}
}

// mayStill is asked of a message that waited: its sender's connection may have
// ended, and its grants since.
func (s *Session) mayStill(a topics.Address) bool {
	id := s.may()
	if s.broker.Still != nil && s.isClosed() {
		var err error
		if id, err = s.broker.Still(id); err != nil {
			return false
		}
	}
	return id.MayPublish(a)
}

// tooSlow ends the connection of a session that missed what it would not learn in
// another way.
func (s *Session) tooSlow() {
	s.mu.Lock()
	again := s.slow
	s.slow = true
	s.mu.Unlock()
	if again {
		return // it is ending
	}
	s.broker.Logger.Warn("cut off", "peer", s.peer, "conn", s.name, "via", s.via, "why", endSlow.text)
	s.receiver.end(endSlow)
}

// lostBy says why the connection is over, to be called before the session is closed.
func (s *Session) lostBy(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
}

// whyLost is that, for the log; nothing when it is not known.
func (s *Session) whyLost() slog.Attr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == "" {
		return slog.Attr{}
	}
	return slog.String("why", s.why)
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// carries reports whether the session has joined that room.
func (s *Session) carries(room string) bool {
	return s.has(room, func(in *member) bool { return in.peer != nil })
}

// has asks about what the session has in that room, if it has anything there.
func (s *Session) has(room string, is func(*member) bool) bool {
	r := s.broker.enter(room, false)
	if r == nil {
		return false
	}
	defer r.leave()
	in := r.members[s]
	return in != nil && is(in)
}

// spendJoin takes a join from the budget, unless the session has something in that
// room already. One that left, and subscribes to its inbox anew, joins again; so does
// a door that subscribes to it again: its client is told all of the room again.
func (s *Session) spendJoin(f topics.Filter) *topics.Error {
	joins := func(in *member) bool {
		return f.Inbox() == s.peer && (in.left && in.peer == nil || in.greeted && s.via != viaMQTT)
	}
	if s.has(f.Room(), func(in *member) bool { return !joins(in) }) {
		return nil
	}
	return s.spend(s.joins, "joins")
}

// retire has s enter no room any more. What its client had on the way when another
// connection took over would take its peer back, and both would be ended.
func (s *Session) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
}

// forget takes r off the rooms of s and reports whether it was the last.
func (s *Session) forget(r *room) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rooms, r)
	return len(s.rooms) == 0
}
