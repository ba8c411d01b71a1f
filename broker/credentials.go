package broker

import (
	"maps"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// What a session may do can change while it lives: its credentials end, are
// renewed, or are taken back.

// may is what the session may do now.
func (s *Session) may() topics.Identity {
	if id := s.identity.Load(); id != nil {
		return *id
	}
	return topics.Identity{Name: s.peer}
}

// Identity is who the session is, and what it may do now.
func (s *Session) Identity() topics.Identity { return s.may() }

// Conn is what the log calls the session.
func (s *Session) Conn() string { return s.name }

// Renew gives the session newer credentials of the same name. Where they grant
// less, it loses the rooms and subscriptions that they do not grant.
func (s *Session) Renew(id topics.Identity) error {
	for {
		was := s.identity.Load()
		if was == nil {
			return errClosed
		}
		if s.swap(was, id) {
			break
		}
	}
	s.narrow()
	return s.recheck()
}

// swap puts id in the place of was, unless another came between, and has the
// session end when id does.
func (s *Session) swap(was *topics.Identity, id topics.Identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.Load() != was || s.closed {
		return false
	}
	next := &id
	s.identity.Store(next)
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if !id.Expires.IsZero() {
		s.expiry = time.AfterFunc(id.Expires.Sub(s.broker.Now()), func() {
			switch {
			case s.identity.Load() != next:
			case s.broker.Now().Before(id.Expires): // the clock was set back meanwhile
				s.swap(next, id)
			default:
				s.expire()
			}
		})
	}
	return true
}

// narrow takes from the session what it may not have any more.
func (s *Session) narrow() {
	for _, r := range s.inRooms() {
		r.mu.Lock()
		r.reconsider(s)
		r.leave()
	}
	_, _ = s.changeWatcher(func(w *member) error { // fails when the session is over
		w.keep(s.may())
		return nil
	})
	s.broker.outside.reconsider(s)
	if c, ok := s.receiver.(*client); ok {
		c.narrow(s.may())
	}
}

// recheck asks what the session's identity may do by now. An error is a
// revocation: the connection ends at once, and its peers are gone.
func (s *Session) recheck() error {
	if s.broker.Still == nil {
		return nil
	}
	for {
		was := s.identity.Load()
		if was == nil {
			return errClosed
		}
		next, err := s.broker.Still(*was)
		switch {
		case s.identity.Load() != was: // it was renewed meanwhile: ask again
		case err != nil:
			s.expel(topics.AsError(err), true)
			return err
		case s.swap(was, next):
			s.narrow()
			return nil
		case s.isClosed():
			return errClosed
		}
	}
}

// reconsider takes from a member what its session may not have any more.
func (r *room) reconsider(s *Session) {
	in := r.members[s]
	if in == nil {
		return
	}
	id := s.may()
	if in.peer != nil && !id.MayJoin(r.name) {
		r.reclaim(in) // what its client has not got it gets no more
		r.warn(in, topics.Errorf(topics.Forbidden, "%s may not be in %s any more", s.peer, r.name))
		r.unlist(in.peer)
		r.giveUp(in.peer, "not granted any more")
	}
	if r.members[s] == nil {
		return
	}
	in.keep(id)
	r.settle(in)
}

// keep removes the subscriptions that id may not have.
func (m *member) keep(id topics.Identity) {
	for _, sub := range slices.Clone(m.subs) {
		if !id.MaySubscribe(sub.filter) {
			m.remove(sub.text)
		}
	}
}

// expire ends the session with its credentials. The peer has its grace, as after
// a lost connection: its client may come back with new ones.
func (s *Session) expire() {
	s.expel(topics.Errorf(topics.Unauthorized, "the credentials of %s have expired: connect again with new ones", s.peer), false)
}

// expel tells the client why and ends its connection. When its peers are gone for
// good nothing waits for them.
func (s *Session) expel(why *topics.Error, gone bool) {
	s.broker.Logger.Info("expelled", "peer", s.peer, "conn", s.name, "via", s.via, "why", why.Message)
	s.former.Store(s.identity.Swap(nil))
	for _, r := range s.inRooms() {
		r.mu.Lock()
		if in := r.members[s]; in != nil {
			r.warn(in, why)
			if gone && in.peer != nil {
				r.unlist(in.peer)
			}
		}
		r.leave()
	}
	// The session ends first: when its connection does, that is no news any more.
	s.close(gone, !gone, &end{code: 0x87, text: why.Message, why: why})
}

// Recheck asks, of every session and every device that is listed without one, what
// its identity may do by now (Config.Still); to be called after accounts have changed.
// A session that is just being opened is either among them, or asks by itself and sees
// the change.
func (b *Broker) Recheck() {
	for _, s := range b.allSessions() {
		_ = s.recheck() // the session was told
	}
	if b.Still == nil {
		return
	}
	b.rooms.Range(func(_, r any) bool {
		r.(*room).recheckListed()
		return true
	})
}

func (b *Broker) allSessions() []*Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.sessions))
}

// Names are those of the identities that have a session.
func (b *Broker) Names() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make(map[string]bool, len(b.sessions))
	for s := range b.sessions {
		names[s.peer] = true
	}
	return names
}

// inRooms returns the rooms that the session has something in.
func (s *Session) inRooms() []*room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.rooms))
}
