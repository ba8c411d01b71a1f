package broker

import (
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// A session of another door than MQTT can outlive its connection: it is suspended,
// its peers are expected back, and what is for them waits, presences and all, in
// order. Then it is resumed, or its peers are given up.

// Suspend says that the client's connection was lost; see bridge.Bus.
func (s *Session) Suspend(most time.Duration) {
	if most == 0 {
		most = s.broker.Grace
	}
	if most < 0 || s.broker.draining.Load() {
		s.close(true, false, endNotResumed)
		return
	}
	s.mu.Lock()
	if s.closed || s.lost != nil {
		s.mu.Unlock()
		return
	}
	s.lost = time.AfterFunc(most, s.forsake)
	s.mu.Unlock()
	for _, r := range s.inRooms() {
		r.mu.Lock()
		if in := r.members[s]; in != nil && in.peer != nil {
			r.broker.Logger.Info("connection lost", "room", r.name, "peer", s.peer, "conn", s.name, "grace", most)
			in.away = true
			in.peer.expect(nil, 0)
		}
		r.leave()
	}
}

// Resume says that the client is back; see bridge.Bus.
func (s *Session) Resume() error {
	s.mu.Lock()
	waited := !s.closed && s.lost != nil && s.lost.Stop()
	missed := s.missed
	s.lost = nil
	s.mu.Unlock()
	if !waited || missed {
		return errGone
	}
	for _, r := range s.inRooms() {
		r.mu.Lock()
		if in := r.members[s]; in != nil && in.peer != nil && in.away {
			r.broker.Logger.Info("resumed", "room", r.name, "peer", s.peer, "conn", s.name, "missed", len(in.peer.waiting))
			in.away = false
			r.flush(in.peer)
		}
		r.leave()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missed { // too much in one room, while it got what it missed in another
		return errGone
	}
	return nil
}

// forsake ends a session that was not resumed in time. Its peers had their grace.
func (s *Session) forsake() {
	if s.broker.draining.Load() {
		return
	}
	s.close(true, false, endNotResumed)
}

var endNotResumed = &end{text: errGone.Message, why: errGone}

var errGone = topics.Errorf(topics.Offline, "the session was not resumed in time, or missed more than is kept")

// keep has a message wait for a member whose connection was lost and may be
// resumed. When there is too much of it the member leaves the room, and the
// session cannot be resumed; a new one learns afresh who is there.
func (r *room) keep(in *member, m *message) {
	p := in.peer
	if len(p.waiting) < maxMissed && p.bytes+m.weight() <= r.broker.Queue {
		r.waits(p, append(p.waiting, m))
		return
	}
	r.broker.Logger.Info("missed too much to resume", "room", r.name, "peer", p.name, "conn", in.session.name)
	in.session.mu.Lock()
	in.session.missed = true
	in.session.mu.Unlock()
	r.takeBack(in)
	if m.lasting() { // its sender, who is away, is told of one of its own
		r.waits(p, append(p.waiting, m))
	}
	in.peer, p.member = nil, nil
	p.expect(r, max(r.broker.Grace, 1)) // without a grace it is gone when all that is being said has been said
	r.drop(in)
	r.failOverdue(p)
}

// maxMissed is how many messages of all kinds wait for a session to be resumed.
const maxMissed = 256

// takeBack has what the connection of in did not take wait for the next one of its
// peer, before what waits already. Only direct messages do: a new connection
// learns the rest afresh. It is for the caller to fail what is overdue.
func (r *room) takeBack(in *member) {
	p := in.peer
	back := in.session.receiver.undelivered(r.name)
	for _, m := range back {
		if m.Until.IsZero() && p.ages(m) { // the door does not know
			m.Until = r.deadline(p)
		}
	}
	r.waits(p, slices.DeleteFunc(append(back, p.waiting...), func(m *message) bool { return !m.lasting() }))
}

// reclaim takes back what a client did not take that stays connected when its peer is
// given up: the senders are told then. What became of its own messages it hears all
// the same.
func (r *room) reclaim(in *member) {
	r.takeBack(in)
	var own []*message
	r.waits(in.peer, slices.DeleteFunc(in.peer.waiting, func(m *message) bool {
		is := m.Src == topics.Server && !m.handed
		if is {
			own = append(own, m)
		}
		return is
	}))
	for _, m := range own {
		m.personal = true // as a warning is: there is no next connection
		r.reach(in, m)
	}
}
