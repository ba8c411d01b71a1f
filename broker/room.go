package broker

import (
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
		p.rest()
		r.waits(p, nil)
	}
}

// member returns what s has in the room, and makes it if need be.
func (r *room) member(s *Session) (*member, error) {
	if in := r.members[s]; in != nil {
		return in, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errClosed
	case s.retired:
		return nil, topics.Errorf(topics.Replaced, "another connection of %s took over", s.peer)
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
		p.device = p.device && r.broker.list(p.name)
		r.peers[p.name] = p
	}
	if old := p.member; old != nil && old != in {
		r.replace(old)
	}
	arrived := in.peer == nil
	p.member, p.session, in.peer = in, s, p
	if !p.online {
		p.online, p.since = true, time.Now()
		if presence == nil {
			presence = []byte(topics.PresenceOnline)
			status.Max = p.status.Max // of a device that has not said another yet
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
			r.failOverdue(p)
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
	said := topics.Address{Room: r.name, Kind: topics.Direct, Dst: p.name, Src: topics.Server}
	if _, hears := in.reception(said, false); hears && !in.greeted { // a filter may be for one sender only
		in.greeted = true
		r.tell(in, r.broker.hello(topics.TypeHello, r.name, in.session).Payload(), topics.TypeHello)
	}
	r.flush(p)
}

// flush hands p what waited for it.
func (r *room) flush(p *peer) {
	waiting := r.waits(p, nil)
	p.rest()
	for _, m := range waiting {
		if m.sender != nil && !m.sender.mayStill(m.Address) {
			r.failOne(p, m, topics.Errorf(topics.Forbidden, "%s may not say that to %s any more", m.Src, p.name))
			continue
		}
		if m.Kind == topics.Direct && m.Src == topics.Server {
			r.reach(p.member, m)
			continue
		}
		if m.Kind != topics.Direct { // only a session that is resumed missed such
			if how, ok := p.member.reception(m.Address, false); ok {
				if lost := r.deliver(p.member, m, how); lost != nil {
					r.tellSender(m, lost)
				}
			}
			continue
		}
		if p.overdue(m) { // before late ran, or it was taken back just now from a connection that had it for long
			why := "%s in %s was offline for as long as it could wait"
			if m.handed {
				why = "%s in %s did not acknowledge it in time"
			}
			r.failOne(p, m, topics.Errorf(topics.Offline, why, p.name, r.name))
			continue
		}
		err := p.takes(m) // which may take less now than when it was away
		if err == nil || m.sender == nil {
			err = r.hand(p, m)
		}
		if err != nil {
			r.failOne(p, m, err)
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
	r.takeBack(old)
	old.peer = nil
	r.warn(old, topics.Errorf(topics.Replaced, "another connection joined %s as %s; this one is not %s any more", r.name, name, name))
	if r.drop(old) {
		old.session.retire()
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
	if p == nil || r.broker.draining.Load() {
		r.drop(in)
		return
	}
	r.takeBack(in)
	r.drop(in)
	p.member = nil
	if will := s.will; withWill && will != nil && will.Room == r.name && s.may().MayPublish(will.Address) {
		p.will = will
	}
	if left || r.broker.Grace < 0 {
		r.giveUp(p, "left")
		return
	}
	r.broker.Logger.Info("connection lost", "room", r.name, "peer", p.name, "conn", s.name, "grace", r.broker.Grace, s.whyLost())
	p.expect(r, r.broker.Grace)
	r.failOverdue(p)
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
	switch {
	case p.member != nil:
		r.failAll(p, "%s joined %s, but never subscribed to its inbox")
	case p.online:
		r.giveUp(p, "gone")
	}
}

// failAll fails what waits for p.
func (r *room) failAll(p *peer, why string) {
	waiting := r.waits(p, nil)
	p.rest()
	for _, m := range waiting {
		if m.Kind != topics.Direct {
			continue // it waited for a session that is suspended, and was for all
		}
		if _, open := p.calls[call{m.Session, m.Src}]; m.handed && open {
			continue // it may have arrived, and the session's bye tells the rest
		}
		r.failOne(p, m, topics.Errorf(topics.Offline, why, p.name, r.name))
	}
}

// failOne tells the sender of m that p did not get it.
func (r *room) failOne(p *peer, m *message, why error) {
	if from := r.peers[m.Src]; m.opens && from != nil {
		from.end(m, p) // it never began
	}
	r.tellSender(m, why)
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
	held := r.holdOn(p)
	r.failAll(p, "%s is offline in %s")
	for c := range p.calls {
		other := r.peers[c.with]
		if slices.ContainsFunc(held, func(m *message) bool { return call{m.Session, m.Src} == c }) {
			continue // it has yet to begin
		}
		delete(p.calls, c)
		if other == nil {
			continue
		}
		delete(other.calls, call{c.session, p.name})
		bye := r.from(p.name, other.name, topics.Bye(c.session))
		bye.Type, bye.Session = topics.TypeBye, c.session
		r.must(other, bye)
		r.watch(bye, other.member)
	}
	p.online = false
	in := p.member
	if p.device {
		p.since = time.Now()
		r.announce(p, []byte(topics.PresenceOffline))
		r.waits(p, held)
		for _, m := range held {
			r.await(p, m)
			if m.opens {
				r.wake(p, m)
			}
		}
	} else {
		r.waits(p, nil)
		delete(r.peers, p.name)
		r.fanOut(presenceOf(r, p, nil), in)
	}
	if in != nil {
		in.peer, in.greeted, in.left, p.member = nil, false, true, nil
		r.settle(in)
	}
}

// publishWill publishes what the client of p asked for at CONNECT. It was checked
// then, and is again: much can be taken back within a grace. A presence as a will is
// needless: the server makes it.
func (r *room) publishWill(p *peer, will *message) {
	will.arrive()
	switch {
	case !p.session.mayStill(will.Address):
		r.broker.Logger.Info("last will not published", "room", r.name, "peer", p.name, "why", "it was not granted any more")
	case will.Kind == topics.All:
		r.fanOut(will, nil)
	case will.Kind == topics.Direct && will.Dst != topics.Server:
		_ = r.direct(will, p, nil) // nobody is left to be told
	}
}
