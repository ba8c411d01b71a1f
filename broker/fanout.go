package broker

import (
	"errors"

	"github.com/beckon-rtc/beckon/topics"
)

// fanOut hands m to every member and watcher that subscribed to it, but for the
// one that sent it, or got it already. It returns what the sender is to be told
// of those that did not get it.
func (r *room) fanOut(m *message, except *member) (lost []*topics.Error) {
	var shared map[string][]candidate
	offer := func(in *member) {
		if except != nil && in.session == except.session {
			return
		}
		reads := in.reception
		if m.Kind == topics.Direct {
			reads = in.watched // its own inbox is not for what others are told
		}
		if how, ok := reads(m.Address, in.session.peer == m.Src); ok {
			if err := r.deliver(in, m, how); err != nil {
				lost = append(lost, err)
			}
		}
		for i := range in.subs {
			if s := &in.subs[i]; s.shared() && s.filter.Match(m.Address) {
				if shared == nil {
					shared = make(map[string][]candidate)
				}
				shared[s.text] = append(shared[s.text], candidate{in, s})
			}
		}
	}
	for _, in := range r.members {
		offer(in)
	}
	for _, in := range *r.broker.watchers.Load() {
		offer(in)
	}
	for _, group := range shared {
		r.turn++
		chosen := group[r.turn%len(group)]
		var how reception
		how.take(chosen.sub)
		if err := r.deliver(chosen.in, m, how); err != nil {
			lost = append(lost, err)
		}
	}
	return lost
}

// candidate is a member of a shared subscription (MQTT 5, 4.8.2), one of whom
// gets the message.
type candidate struct {
	in  *member
	sub *subscription
}

// deliver hands m to one subscriber. The error is for the sender of a message to
// all. A subscriber that misses a presence, or what it watches, would hold a
// wrong picture of the room for ever: it is cut off, and gets a snapshot when it
// comes back.
func (r *room) deliver(in *member, m *message, how reception) *topics.Error {
	if m.expired() {
		return nil // it waited for a session that is resumed
	}
	if m.Kind == topics.All && in.peer != nil {
		if most := in.peer.status.Max; most > 0 && len(m.Payload) > most {
			return topics.Errorf(topics.TooLarge, "the message has %d bytes, %s takes at most %d", len(m.Payload), in.peer.name, most).Of(m.Message, in.peer.name)
		}
	}
	if in.away && in.peer != nil {
		r.keep(in, m)
		return nil
	}
	err := in.session.receiver.deliver(m, how)
	switch {
	case err == nil, errors.Is(err, errClosed):
	case m.Kind == topics.All && in.peer != nil:
		return undelivered(err, in.peer.name, r.name).Of(m.Message, in.peer.name)
	case errors.Is(err, errFull):
		in.session.tooSlow()
	}
	return nil
}

// snapshot hands the presence of all peers that sub covers to in, but for its
// own.
func (r *room) snapshot(in *member, sub subscription) {
	if sub.shared() {
		return // MQTT 5, 4.8.2: no retained messages to a shared subscription
	}
	if !sub.filter.Covers(topics.Presence) {
		return
	}
	for _, p := range r.sorted() {
		m := presenceOf(r, p, p.presence)
		if p.name == in.session.peer || !sub.filter.Match(m.Address) {
			continue
		}
		how := reception{retain: true, stood: sub.text}
		how.take(&sub)
		r.deliver(in, m, how)
	}
}

// show lets those who read all of a room see an error that its receiver gets, or
// got, by other means.
func (b *Broker) show(room, to string, err *topics.Error) {
	r := b.enter(room, false)
	if r == nil {
		return
	}
	defer r.leave()
	m := r.from(topics.Server, to, err.Payload())
	m.Type = topics.TypeError
	if p := r.peers[to]; p != nil {
		r.watch(m, p.member)
	}
}
