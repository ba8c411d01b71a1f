package broker

import (
	"errors"
	"slices"

	"github.com/beckon-rtc/beckon/topics"
)

// subscription is one filter of a session.
type subscription struct {
	text     string
	filter   topics.Filter
	id       int // subscription identifier, 0 for none
	qos      byte
	noLocal  bool // MQTT 5, 3.8.3.1
	retain   bool // retain as published
	handling byte // retain handling: 0 send retained, 1 if the subscription is new, 2 do not
}

// maxFilters is how many filters an MQTT connection may hold. The other doors
// subscribe to what a room needs, and have a limit of rooms.
const maxFilters = 64

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
	name := sub.filter.Room()
	if name == "" {
		return s.subscribeAcross(sub)
	}
	if err := s.spendJoin(sub.filter); err != nil {
		return err
	}
	r := s.broker.enter(name, true)
	defer r.leave()
	if err := s.granted(sub); err != nil { // with the room's lock, under which grants are taken back
		return err
	}
	in, err := r.member(s)
	if err != nil {
		return err
	}
	isNew, err := in.add(sub)
	r.settle(in)
	if err != nil {
		return err
	}
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

func (s *Session) granted(sub subscription) error {
	if !s.may().MaySubscribe(sub.filter) {
		return topics.Errorf(topics.Forbidden, "%s may not subscribe to %q: it is wider than the grant", s.peer, sub.text)
	}
	return nil
}

// subscribeAcross adds a filter whose room is a wildcard.
func (s *Session) subscribeAcross(sub subscription) error {
	var isNew bool
	next, err := s.changeWatcher(func(w *member) (err error) {
		if err = s.granted(sub); err == nil {
			isNew, err = w.add(sub)
		}
		return err
	})
	if err != nil {
		return err
	}
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
		r.settle(in)
		return true
	}
	was := false
	_, err = s.changeWatcher(func(w *member) error {
		was = w.remove(text)
		return nil
	})
	return was && err == nil
}

// changeWatcher changes what the session subscribed to across rooms. Rooms read
// it without a lock, so a copy is changed, and takes its place; all of that with
// s.mu held, so that of two changes none is lost, and none outlives the session.
func (s *Session) changeWatcher(change func(*member) error) (*member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	next := &member{session: s}
	if s.watcher != nil {
		next.subs = slices.Clone(s.watcher.subs)
	}
	if err := change(next); err != nil {
		return nil, err
	}
	switch {
	case len(next.subs) > 0:
		s.watcher = next
		s.broker.watch(next)
	case s.watcher != nil: // it watches no more
		s.broker.unwatch(s.watcher)
		s.watcher = nil
	}
	return next, nil
}

// countFilter counts one more filter, if there may be one.
func (s *Session) countFilter() error {
	if s.filters.Add(1) > maxFilters && s.via == viaMQTT {
		s.filters.Add(-1)
		return topics.Errorf(topics.Busy, "a connection holds at most %d filters", maxFilters)
	}
	return nil
}
