package broker

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// room is one room: its peers, whether their connections live or not, and its
// members, the sessions that subscribed to something in it.
type room struct {
	name   string
	broker *Broker

	mu       sync.Mutex // guards all of the room and its peers and members
	peers    map[string]*peer
	members  map[*Session]*member
	watching int // members that read what is said to others
	over     bool
	turn     int // whose turn it is in shared subscriptions
}

func newRoom(b *Broker, name string) *room {
	return &room{broker: b, name: name, peers: make(map[string]*peer), members: make(map[*Session]*member)}
}

// leave unlocks the room, and ends it when nobody is in it any more.
func (r *room) leave() {
	if len(r.peers) == 0 && len(r.members) == 0 {
		r.over = true
		r.broker.rooms.CompareAndDelete(r.name, r)
	}
	r.mu.Unlock()
}

// stop ends the timers of the room.
func (r *room) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		p.expect(nil, 0)
	}
}

// member returns what s has in the room, and makes it if need be.
func (r *room) member(s *Session) (*member, error) {
	if in := r.members[s]; in != nil {
		return in, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if most := r.broker.MaxRooms; len(s.rooms) >= most {
		return nil, topics.Errorf(topics.Busy, "a connection can be in %d rooms; leave one before entering %s", most, r.name)
	}
	s.rooms[r] = struct{}{}
	in := &member{session: s}
	r.members[s] = in
	return in, nil
}

// drop takes a member out of the room.
func (r *room) drop(in *member) (last bool) {
	delete(r.members, in.session)
	in.session.filters.Add(-int32(len(in.subs)))
	in.subs = nil
	r.settle(in)
	return in.session.forget(r)
}

// settle brings the room in line with in, whose subscriptions or peer changed: it
// counts who reads what is said to others, and drops who has nothing here.
func (r *room) settle(in *member) {
	if is := in.watches(); is != in.watching {
		in.watching = is
		if is {
			r.watching++
		} else {
			r.watching--
		}
	}
	if len(in.subs) == 0 && in.peer == nil && r.members[in.session] == in {
		r.drop(in)
	}
}

// join makes s the connection of the peer of its name. A nil presence stands
// for "what it was, or just online".
func (r *room) join(s *Session, presence []byte, status topics.Status) error {
	in, err := r.member(s)
	if err != nil {
		return err
	}
	defer r.settle(in)
	if !s.may().MayJoin(r.name) { // with the room's lock, under which grants are taken back
		return topics.Errorf(topics.Forbidden, "%s may not join %s", s.peer, r.name)
	}
	p := r.peers[s.peer]
	if p == nil {
		if most := r.broker.MaxPeers; len(r.peers) >= most {
			return topics.Errorf(topics.Busy, "room %s is full: it has %d peers", r.name, most)
		}
		p = newPeer(s)
		r.peers[p.name] = p
	}
	if old := p.member; old != nil && old != in {
		r.replace(old)
	}
	arrived := in.peer == nil
	p.member, in.peer = in, p
	if !p.online {
		p.online, p.since = true, time.Now()
		if presence == nil {
			presence = []byte(topics.PresenceOnline)
		}
	}
	if presence != nil {
		p.status = status
	}
	r.announce(p, presence)
	if arrived {
		r.broker.Logger.Info("joined", "room", r.name, "peer", p.name, "conn", s.name, "via", s.via)
		p.will = nil
		if !in.inbox() {
			p.expect(r, r.broker.Grace)
		}
	}
	if in.inbox() {
		r.opened(in)
	}
	return nil
}

// opened is called when the peer of in can be reached: it gets its hello, and
// what waited for it.
func (r *room) opened(in *member) {
	p := in.peer
	p.expect(nil, 0)
	if !in.greeted {
		in.greeted = true
		r.tell(in, r.broker.hello(topics.TypeHello, r.name, in.session).Payload(), topics.TypeHello)
	}
	waiting := p.waiting
	p.waiting = nil
	for _, m := range waiting {
		var err error
		if m.sender != nil && !m.sender.may().MayPublish(m.Address) {
			err = topics.Errorf(topics.Forbidden, "%s may not say that to %s any more", m.Src, p.name)
		} else {
			err = r.hand(p, m)
		}
		if err != nil {
			r.tellSender(m, err)
		}
	}
}

// announce publishes the presence of p as the server says it, if it changed.
func (r *room) announce(p *peer, presence []byte) {
	if presence == nil {
		presence = p.presence
	}
	via := ""
	if p.online && p.member != nil {
		via = p.member.session.via
	}
	next := topics.Announce(presence, p.since.Unix(), via)
	if slices.Equal(next, p.presence) {
		return
	}
	p.presence = next
	r.fanOut(presenceOf(r, p, next), p.member)
}

func presenceOf(r *room, p *peer, payload []byte) *message {
	return &message{qos: 1, retained: true, Delivery: topics.Delivery{
		Address: topics.Address{Room: r.name, Kind: topics.Presence, Src: p.name},
		Payload: payload,
	}}
}

// replace takes the peer of old away from it: another connection of the same
// identity joined.
func (r *room) replace(old *member) {
	name := old.peer.name
	r.broker.Logger.Info("replaced", "room", r.name, "peer", name, "conn", old.session.name)
	old.peer = nil
	p := r.peers[name]
	p.waiting = append(old.session.receiver.undelivered(r.name), p.waiting...)
	told := topics.Errorf(topics.Replaced, "another connection joined %s as %s; this one is not %s any more", r.name, name, name)
	r.tell(old, told.Payload(), topics.TypeError)
	if r.drop(old) {
		old.session.receiver.end(endReplaced)
	}
}

// part takes s out of the room: it left, or its connection was lost.
func (r *room) part(s *Session, left, withWill bool) {
	in := r.members[s]
	if in == nil {
		return
	}
	p := in.peer
	r.drop(in)
	if p == nil || r.broker.draining.Load() {
		return
	}
	p.member = nil
	p.waiting = append(s.receiver.undelivered(r.name), p.waiting...)
	if will := s.will; withWill && will != nil && will.Room == r.name && s.may().MayPublish(will.Address) {
		p.will = will
	}
	if left || r.broker.Grace < 0 {
		r.giveUp(p, "left")
		return
	}
	r.broker.Logger.Info("connection lost", "room", r.name, "peer", p.name, "conn", s.name, "grace", r.broker.Grace)
	p.expect(r, r.broker.Grace)
}

// expired is called when p was expected back, or its inbox to be opened, and
// nothing came of it.
func (r *room) expired(p *peer, turn int) {
	r.mu.Lock()
	defer r.leave()
	if p.turn != turn || r.broker.draining.Load() {
		return
	}
	p.timer = nil
	if p.member == nil {
		r.giveUp(p, "gone")
		return
	}
	r.fail(p, "%s joined %s, but never subscribed to its inbox")
}

// fail tells the senders of what waits for p that it did not get it.
func (r *room) fail(p *peer, why string) {
	waiting := p.waiting
	p.waiting = nil
	for _, m := range waiting {
		if _, open := p.calls[call{m.Session, m.Src}]; m.handed && open {
			continue // it may have arrived, and the session's bye tells the rest
		}
		if from := r.peers[m.Src]; m.opens && from != nil {
			from.end(m, p) // it never began
		}
		r.tellSender(m, topics.Errorf(topics.Offline, why, p.name, r.name))
	}
}

// giveUp ends p: its last will is published, its sessions end at the other
// side, and it is gone, or offline if it is a device that stays listed.
func (r *room) giveUp(p *peer, why string) {
	r.broker.Logger.Info("gone", "room", r.name, "peer", p.name, "why", why, "sessions", len(p.calls))
	p.expect(nil, 0)
	if will := p.will; will != nil {
		p.will = nil
		r.publishWill(p, will)
	}
	r.fail(p, "%s is offline in %s")
	for c := range p.calls {
		other := r.peers[c.with]
		if other == nil {
			continue
		}
		delete(other.calls, call{c.session, p.name})
		bye := r.from(p.name, other.name, topics.Bye(c.session))
		bye.Type, bye.Session = topics.TypeBye, c.session
		r.must(other, bye)
		r.watch(bye, other.member)
	}
	clear(p.calls)
	p.online = false
	in := p.member
	if p.device {
		p.since = time.Now()
		r.announce(p, []byte(topics.PresenceOffline))
	} else {
		delete(r.peers, p.name)
		r.fanOut(presenceOf(r, p, nil), in)
	}
	if in != nil {
		in.peer, in.greeted, p.member = nil, false, nil
		r.settle(in)
	}
}

// publishWill publishes what the client of p asked for at CONNECT. It was checked
// then. A presence as a will is needless: the server makes it.
func (r *room) publishWill(p *peer, will *message) {
	switch {
	case will.Kind == topics.All:
		r.fanOut(will, nil)
	case will.Kind == topics.Direct && will.Dst != topics.Server:
		_ = r.direct(will, p, nil) // nobody is left to be told
	}
}

// from makes a message in the room from one peer, or the server, to another.
func (r *room) from(src, dst string, payload []byte) *message {
	return &message{qos: 1, Delivery: topics.Delivery{
		Address: topics.Address{Room: r.name, Kind: topics.Direct, Dst: dst, Src: src},
		Payload: payload,
	}}
}

// direct hands m, from the peer me, to the one it is for.
func (r *room) direct(m *message, me *peer, from *member) error {
	if m.Dst == topics.Server {
		return r.asked(m, from)
	}
	p := r.peers[m.Dst]
	if m.Ends() {
		me.end(m, p) // it has ended for its sender, whether the other side hears of it or not
	}
	switch {
	case p == nil:
		return topics.Errorf(topics.NotFound, "there is no %s in %s", m.Dst, r.name)
	case p.status.Max > 0 && len(m.Payload) > p.status.Max:
		return topics.Errorf(topics.TooLarge, "the message has %d bytes, %s takes at most %d", len(m.Payload), m.Dst, p.status.Max)
	}
	m.opens = m.Opens() && !me.has(m)
	if m.opens {
		for _, side := range [...]*peer{me, p} {
			if most := r.broker.MaxSessions; len(side.calls) >= most {
				return topics.Errorf(topics.Busy, "%s has %d sessions open, it cannot have more", side.name, most)
			}
		}
	}
	if err := r.hand(p, m); err != nil {
		return err
	}
	if m.opens {
		me.calls[call{m.Session, p.name}] = struct{}{}
		p.calls[call{m.Session, me.name}] = struct{}{}
	}
	r.watch(m, p.member)
	return nil
}

// hand gives m to p, or lets it wait if p is expected soon.
func (r *room) hand(p *peer, m *message) error {
	if p.member != nil && len(p.waiting) == 0 {
		if how, ok := p.member.reception(m.Address, m.Src == p.name); ok {
			err := p.member.session.receiver.deliver(m, how)
			switch {
			case err == nil:
				return nil
			case !errors.Is(err, errClosed):
				return undelivered(err, p.name, r.name)
			}
			return p.wait(m, r.broker.MaxHeld) // its connection is ending just now
		}
	}
	if len(p.waiting) == 0 && !p.expected() {
		if p.member == nil {
			return topics.Errorf(topics.Offline, "%s is offline in %s", p.name, r.name)
		}
		return topics.Errorf(topics.Offline, "%s in %s does not listen to %s: it has not subscribed to its inbox", p.name, r.name, m.Src)
	}
	return p.wait(m, r.broker.MaxHeld)
}

// undelivered says, to the sender, why a receiver did not get a message.
func undelivered(err error, peer, room string) *topics.Error {
	if errors.Is(err, errFull) {
		return topics.Errorf(topics.Busy, "%s in %s does not take its messages, its queue is full", peer, room)
	}
	return topics.AsError(err)
}

// must hands m, which the server says, to p: it waits beyond any limit, and a
// receiver that does not take it is cut off, since it would not learn it any
// other way.
func (r *room) must(p *peer, m *message) {
	switch err := r.hand(p, m); {
	case err == nil:
	case p.member == nil && p.expected(), len(p.waiting) > 0:
		p.waiting = append(p.waiting, m)
	case p.member != nil && topics.AsError(err).Code == topics.Busy:
		p.member.session.receiver.end(endSlow)
	}
}

// say hands m to everyone else in the room who listens.
func (r *room) say(m *message, from *member) {
	for _, lost := range r.fanOut(m, from) {
		r.tellSender(m, lost)
	}
}

// watch shows what is said to one peer to those who may read it all.
func (r *room) watch(m *message, to *member) {
	if r.watching > 0 || len(*r.broker.watchers.Load()) > 0 {
		r.fanOut(m, to)
	}
}

// tell sends a message of the server to a member, if it listens.
func (r *room) tell(in *member, payload []byte, kind string) {
	m := r.from(topics.Server, in.session.peer, payload)
	m.Type = kind
	if how, ok := in.reception(m.Address, false); ok {
		if err := in.session.receiver.deliver(m, how); errors.Is(err, errFull) {
			in.session.receiver.end(endSlow) // it missed what it must know
		}
	}
	if kind == topics.TypeError {
		r.watch(m, in)
	}
}

// tellSender tells whoever sent m what became of it, if need be on the connection
// that it has by now.
func (r *room) tellSender(m *message, err error) {
	told := topics.AsError(err)
	if told.About == "" {
		told = told.Of(m.Message, m.Dst)
	}
	r.broker.lost(m, told)
	if m.sender == nil {
		return
	}
	p := r.peers[m.Src]
	switch to := r.members[m.sender]; {
	case to != nil:
		r.tell(to, told.Payload(), topics.TypeError)
	case p != nil && p.member != nil:
		r.tell(p.member, told.Payload(), topics.TypeError)
	case p != nil && p.expected():
		late := r.from(topics.Server, p.name, told.Payload())
		late.Type = topics.TypeError
		r.must(p, late)
	}
}

// asked answers what a peer asks the server.
func (r *room) asked(m *message, from *member) error {
	if m.Type != topics.TypeICE {
		return topics.Errorf(topics.BadRequest, "the server (%s) takes ice, not %s", topics.Server, m.Type)
	}
	r.tell(from, r.broker.hello(topics.TypeICE, r.name, from.session).Payload(), topics.TypeICE)
	return nil
}
