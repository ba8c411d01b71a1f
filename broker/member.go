package broker

import (
	"slices"

	"github.com/beckon-rtc/beckon/topics"
)

// member is what a session has in one room: its subscriptions, and the peer
// that it carries, if it joined.
type member struct {
	session  *Session
	subs     []subscription
	peer     *peer // nil while it only reads
	greeted  bool  // it got its hello
	left     bool  // it had a peer, which left: to join again is another join
	watching bool  // it reads what is said to others
	away     bool  // its connection was lost, and may be resumed: what is for it waits with its peer
}

// add adds or replaces a subscription and reports whether its filter is new.
func (m *member) add(sub subscription) (isNew bool, err error) {
	for i := range m.subs {
		if m.subs[i].text == sub.text {
			m.subs[i] = sub
			return false, nil
		}
	}
	if err := m.session.countFilter(); err != nil {
		return false, err
	}
	m.subs = slices.Concat(m.subs, []subscription{sub}) // without room for more, as most stay
	return true, nil
}

// remove removes a subscription and reports whether there was one.
func (m *member) remove(text string) bool {
	n := len(m.subs)
	m.subs = slices.DeleteFunc(m.subs, func(s subscription) bool { return s.text == text })
	if len(m.subs) == n {
		return false
	}
	m.session.filters.Add(-1)
	return true
}

func (m *member) sameSession(other *member) bool { return m.session == other.session }

// inbox reports whether the member listens to what is said to it.
func (m *member) inbox() bool {
	return slices.ContainsFunc(m.subs, func(s subscription) bool { return s.filter.Inbox() == m.session.peer })
}

// watches reports whether the member reads what is said to others.
func (m *member) watches() bool {
	me := m.session.peer
	return slices.ContainsFunc(m.subs, func(s subscription) bool {
		return s.filter.Inbox() != me && (s.filter.Covers(topics.Direct) || s.filter.Covers(topics.Wake))
	})
}

// reception says how the member gets what is published at a: once, with the
// highest QoS of all its matching filters and the identifiers of them all
// (MQTT 5, 3.3.4). ok is false if none of them matches. Shared subscriptions
// are not the member's alone, and are left out; see [room.fanOut].
func (m *member) reception(a topics.Address, self bool) (r reception, ok bool) {
	for i := range m.subs {
		s := &m.subs[i]
		if s.shared() || s.noLocal && self || !s.filter.Match(a) {
			continue
		}
		ok = true
		r.take(s)
	}
	return r, ok
}

// watched is the same for a direct message that is handed to another connection: a
// subscription to the peer's own inbox does not count.
func (m *member) watched(a topics.Address, self bool) (r reception, ok bool) {
	for i := range m.subs {
		s := &m.subs[i]
		if s.filter.Inbox() == m.session.peer || s.shared() || s.noLocal && self || !s.filter.Match(a) {
			continue
		}
		ok = true
		r.take(s)
	}
	return r, ok
}

func (r *reception) take(s *subscription) {
	r.qos = max(r.qos, s.qos)
	r.retain = r.retain || s.retain
	if s.id != 0 {
		r.ids = append(r.ids, s.id)
	}
}

// shared reports whether others may get the message instead (MQTT 5, 4.8.2). One's
// own inbox is nobody else's, so there it makes no difference.
func (s *subscription) shared() bool { return s.filter.Share != "" && s.filter.Inbox() == "" }
