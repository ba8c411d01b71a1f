package broker

import (
	"slices"
	"sync"

	"github.com/beckon-rtc/beckon/topics"
)

// outside is ordinary MQTT between clients whose grants open topics outside the
// root: a camera's motion sensor, a hub's switch. Nothing of the rooms is in it.
type outside struct {
	broker *Broker

	mu        sync.Mutex // guards what follows
	listeners map[*Session][]subscription
	retained  retained
	wills     map[willOf]*Session // the newest connection of a peer with a last will there
	turn      int                 // whose turn it is in shared subscriptions
}

func newOutside(b *Broker) *outside {
	return &outside{broker: b, listeners: make(map[*Session][]subscription), retained: newRetained(), wills: make(map[willOf]*Session)}
}

// willOf is whose last will is for which topic.
type willOf struct{ peer, topic string }

// publish hands m to all who subscribed to its topic, its sender among them, as
// MQTT has it.
func (o *outside) publish(s *Session, m *message) error {
	switch id := s.may(); {
	case !id.MayPublishOutside(m.topic):
		return topics.Errorf(topics.Forbidden, "%s may not publish outside the rooms, to %q", s.peer, m.topic)
	case len(m.Payload) > o.broker.MaxMessage:
		return topics.Errorf(topics.TooLarge, "the message has %d bytes, the limit is %d", len(m.Payload), o.broker.MaxMessage)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.spread(s, m)
}

// spread does it, with o.mu held.
func (o *outside) spread(s *Session, m *message) error {
	if m.retained {
		if len(m.Payload) == 0 {
			o.retained.remove(m.topic) // [MQTT-3.3.1-6]
		} else if err := o.retained.put(s.peer, m); err != nil {
			return err
		}
	}
	var shared map[string][]candidate
	for to, subs := range o.listeners {
		var how reception
		matches := false
		for i := range subs {
			sub := &subs[i]
			group, inner := topics.CutShare(sub.text)
			if sub.noLocal && to == s || !topics.Covers(inner, m.topic) {
				continue
			}
			if group != "" {
				if shared == nil {
					shared = make(map[string][]candidate)
				}
				shared[sub.text] = append(shared[sub.text], candidate{&member{session: to}, sub})
				continue
			}
			matches = true
			how.take(sub)
		}
		if matches {
			o.deliver(to, m, how)
		}
	}
	for _, group := range shared {
		o.turn++
		chosen := group[o.turn%len(group)]
		var how reception
		how.take(chosen.sub)
		o.deliver(chosen.in.session, m, how)
	}
	return nil
}

// deliver sends m to a listener. One whose queue is full is cut off rather than
// left with a gap that nobody tells of.
func (o *outside) deliver(to *Session, m *message, how reception) {
	if to.receiver.deliver(m, how) == errFull {
		to.tooSlow()
	}
}

// keepWill keeps the last will of a session, if it has one here. The newest
// connection of a peer speaks for it at a topic: otherwise a device that is back
// would be said to be gone when its old connection is found to be dead.
func (o *outside) keepWill(s *Session) {
	if s.will == nil || s.will.Room != "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !s.isClosed() {
		o.wills[willOf{s.peer, s.will.topic}] = s
	}
}

// endWill lets go of the last will of a session that has ended, and publishes it
// if it is due. No will delay is waited for, since the session ended with its
// connection (MQTT 5, 3.1.3.2.2).
func (o *outside) endWill(s *Session, due bool) {
	if s.will == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	whose := willOf{s.peer, s.will.topic}
	if o.wills[whose] != s {
		return
	}
	delete(o.wills, whose)
	if due && !o.broker.draining.Load() && s.may().MayPublishOutside(s.will.topic) {
		s.will.arrive()
		_ = o.spread(s, s.will) // nobody is left to be told
	}
}

// subscribe adds or replaces a subscription, and sends what is retained.
func (o *outside) subscribe(s *Session, sub subscription) error {
	group, inner := topics.CutShare(sub.text)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch { // with the lock under which grants are taken back
	case s.isClosed():
		return errClosed
	case !s.may().MaySubscribeOutside(inner):
		return topics.Errorf(topics.Forbidden, "%s may not subscribe outside the rooms, to %q", s.peer, sub.text)
	}
	subs := o.listeners[s]
	at := slices.IndexFunc(subs, func(x subscription) bool { return x.text == sub.text })
	if at >= 0 {
		subs[at] = sub
	} else {
		if err := s.countFilter(); err != nil {
			return err
		}
		o.listeners[s] = append(subs, sub)
	}
	if group != "" || sub.handling == 2 || sub.handling == 1 && at >= 0 {
		return nil
	}
	o.retained.expire()
	how := reception{retain: true, stood: sub.text}
	how.take(&sub)
	for topic, m := range o.retained.messages {
		if topics.Covers(inner, topic) {
			o.deliver(s, m.message, how)
		}
	}
	return nil
}

// unsubscribe removes a subscription and reports whether there was one.
func (o *outside) unsubscribe(s *Session, text string) bool {
	return o.remove(s, func(sub subscription) bool { return sub.text == text }) > 0
}

// reconsider removes what the session may not have any more.
func (o *outside) reconsider(s *Session) {
	id := s.may()
	o.remove(s, func(sub subscription) bool {
		_, inner := topics.CutShare(sub.text)
		return !id.MaySubscribeOutside(inner)
	})
}

// leave removes all that the session has.
func (o *outside) leave(s *Session) {
	o.remove(s, func(subscription) bool { return true })
}

func (o *outside) remove(s *Session, which func(subscription) bool) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	subs := o.listeners[s]
	kept := slices.DeleteFunc(slices.Clone(subs), which)
	if len(kept) == 0 {
		delete(o.listeners, s)
	} else {
		o.listeners[s] = kept
	}
	gone := len(subs) - len(kept)
	s.filters.Add(-int32(gone))
	return gone
}
