package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// note is a message.
type note struct {
	room, src, dst string
	kind, session  string
	about          string // of what is said to all: its kind
	text           string // of the server: as failure has it
	by             *link  // nil: the server
	opens          bool   // it began its session
	handed         bool   // it arrived, and was not acknowledged
	until          time.Time
}

func (n *note) told() string {
	if n.src == topics.Server {
		return n.text
	}
	return told("message", n.src, n.room, n.text)
}

// told is what somebody hears of a message or a presence; failure, of an error.
func told(kind, from, room, text string) string {
	return fmt.Sprintf("%s of %s in %s: %s", kind, from, room, text)
}

func failure(room string, code topics.Code, about, session, to string) string {
	return fmt.Sprintf("error %d in %s about %s %s to %s", code, room, about, session, to)
}

func (l *link) hear(what string) { l.hears = append(l.hears, what) }

// arrive is a direct message at a connection.
func (l *link) arrive(n *note) {
	l.hear(n.told())
	switch {
	case l.json(), l.mute:
		l.owes = append(l.owes, owed{n, l.times(n)})
	}
}

// times counts how often l was told something in these words.
func (l *link) times(n *note) int {
	if l.told == nil {
		l.told = map[string]int{}
	}
	l.told[n.told()]++
	return l.told[n.told()]
}

// fails is an error about a message at a connection.
func (l *link) fails(room, what string) { l.arrive(&note{room: room, src: topics.Server, text: what}) }

// isRefused is the answer to a message. By JSON it is no message itself.
func (l *link) isRefused(room, what string) {
	if l.json() {
		l.hear(what)
	} else {
		l.fails(room, what)
	}
}

// takeBack has what the connection of s may not have got wait for the next, before
// what waits. What is for who is there does not wait for another one.
func (m *model) takeBack(s *stay) {
	var back []*note
	l := s.link
	l.owes = slices.DeleteFunc(l.owes, func(o owed) bool {
		if o.room != s.room {
			return false
		}
		if l.json() {
			if l.proven(o) {
				return true
			}
			again := *o.note
			o.note = &again
		}
		o.handed = true
		back = append(back, o.note)
		return true
	})
	s.waiting = slices.DeleteFunc(append(back, s.waiting...), func(n *note) bool { return n.kind == "all" })
}

// keep has n wait for a peer.
func (m *model) keep(n *note, s *stay) {
	if n.until.IsZero() && s.ages(n) {
		n.until = m.deadline(s)
	}
	s.waiting = append(s.waiting, n)
}

// deadline is when the sender of what is accepted for s now hears that it failed.
func (m *model) deadline(s *stay) time.Time {
	if s.away {
		return m.now.Add(m.hold)
	}
	return m.now.Add(max(m.hold, m.grace))
}

// ages reports whether n waits for s until its time only, and not until s is back
// or gone.
func (s *stay) ages(n *note) bool {
	return n.kind != "all" && (s.away || n.by != nil || n.src != topics.Server && n.kind != "bye")
}

func (m *model) overdue(n *note, s *stay) bool { return s.ages(n) && !n.until.After(m.now) }

// must hands over what the server says: it waits beyond any limit.
func (m *model) must(n *note, to *stay) {
	switch {
	case to.here():
		to.link.arrive(n)
	case !to.away || len(to.waiting) > 0:
		m.keep(n, to)
	}
}

// fail tells the senders of messages to s that they did not arrive.
func (m *model) fail(s *stay, all []*note) {
	for _, n := range all {
		if n.handed && m.talks[n.talk()] {
			continue // it may have arrived; the bye of the session says the rest
		}
		m.failOne(n)
	}
}

func (m *model) failOne(n *note) {
	if n.opens {
		delete(m.talks, n.talk())
	}
	if n.kind != "all" {
		m.tell(n, topics.Offline)
	}
}

// holdOn takes out of what waits for a device what goes on waiting while it is
// offline.
func (m *model) holdOn(s *stay) (held []*note) {
	if !m.listed(s) {
		return nil
	}
	began := s.began()
	s.waiting = slices.DeleteFunc(s.waiting, func(n *note) bool {
		stays := n.kind != "all" && n.by != nil && !m.overdue(n, s) && (n.session == "" || began(n))
		if stays {
			held = append(held, n)
		}
		return stays
	})
	return held
}

// began tells the messages of sessions that have yet to begin: their first one
// waits, and was handed to nobody.
func (s *stay) began() func(*note) bool {
	first := map[talk]string{}
	for _, n := range s.waiting {
		if n.opens && !n.handed {
			first[n.talk()] = n.src
		}
	}
	return func(n *note) bool { return n.session != "" && first[n.talk()] == n.src }
}

func (n *note) talk() talk { return talkOf(n.room, n.session, n.src, n.dst) }

func (n *note) refused(code topics.Code) string {
	if n.about != "" {
		return failure(n.room, code, n.about, n.session, n.dst)
	}
	return failure(n.room, code, n.kind, n.session, n.dst)
}

// tell tells the sender that n failed: on its connection, on the next, or when it
// is back.
func (m *model) tell(n *note, code topics.Code) {
	if n.by == nil {
		return
	}
	if n.by.reads[n.room] && !n.by.lost {
		n.by.fails(n.room, n.refused(code))
	} else if s := m.stays[place{n.room, n.src}]; s != nil {
		m.must(&note{room: n.room, src: topics.Server, dst: n.src, kind: "error", text: n.refused(code)}, s)
	}
}

// send is l saying something to one peer. The code is 0 if it was accepted:
// delivered, or held.
func (m *model) send(l *link, room, dst, kind, session, text string) topics.Code {
	n := &note{room: room, src: l.name, dst: dst, kind: kind, session: session, text: text, by: l}
	code := m.accept(n)
	if code == 0 {
		m.see(told("message to "+n.dst, n.src, n.room, n.text))
	} else if l.reads[room] || l.json() {
		l.isRefused(room, n.refused(code))
	}
	return code
}

func (m *model) accept(n *note) topics.Code {
	from, to := m.stays[place{n.room, n.src}], m.stays[place{n.room, n.dst}]
	if from == nil || from.link != n.by {
		return topics.Forbidden
	}
	if n.kind == "bye" {
		delete(m.talks, n.talk())
	}
	if to == nil {
		return topics.NotFound
	}
	n.opens = (n.kind == "offer" || n.kind == "start") && !m.talks[n.talk()]
	if n.opens && max(m.count(from.place), m.count(to.place)) >= m.open {
		return topics.Busy
	}
	n.until = m.deadline(to)
	switch {
	case to.here():
		to.link.arrive(n)
	default:
		if n.opens {
			m.supersede(n, to)
		}
		if to.held() >= m.held {
			return topics.Busy
		}
		m.keep(n, to)
	}
	if n.opens {
		m.talks[n.talk()] = true
	}
	return 0
}

// held is how many messages wait that count for the limit.
func (s *stay) held() (count int) {
	for _, n := range s.waiting {
		if n.kind != "all" && n.src != topics.Server {
			count++
		}
	}
	return count
}

// supersede drops the other sessions of the sender that have yet to begin, of
// whose messages the sender is told.
func (m *model) supersede(n *note, to *stay) {
	began := to.began()
	var older []*note
	for _, old := range slices.Clone(to.waiting) {
		if old.src != n.src || old.session == n.session || !began(old) {
			continue
		}
		to.waiting = slices.DeleteFunc(to.waiting, func(o *note) bool { return o == old })
		older = append(older, old)
	}
	for _, old := range older {
		m.failOne(old)
	}
}

// count is the number of sessions of a peer.
func (m *model) count(p place) (n int) {
	for t := range m.talks {
		if t.room == p.room && (t.a == p.name || t.b == p.name) {
			n++
		}
	}
	return n
}

// sayAll is l saying something to the whole room.
func (m *model) sayAll(l *link, room, kind, text string) topics.Code {
	if s := m.stays[place{room, l.name}]; s == nil || s.link != l {
		if l.reads[room] || l.json() {
			l.isRefused(room, failure(room, topics.Forbidden, kind, "", ""))
		}
		return topics.Forbidden
	}
	for _, o := range m.links {
		switch {
		case o == l || !o.reads[room]:
		case o.lost:
			s := m.stays[place{room, o.name}]
			s.waiting = append(s.waiting, &note{room: room, src: l.name, dst: o.name, kind: "all", about: kind, text: text, by: l})
		default:
			o.hear(told("all", l.name, room, text))
		}
	}
	m.see(told("all", l.name, room, text))
	return 0
}
