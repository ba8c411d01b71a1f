package main

import (
	"fmt"
	"slices"

	"github.com/beckon-rtc/beckon/topics"
)

// note is a message.
type note struct {
	room, src, dst string
	kind, session  string
	text           string // of the server: as failure has it
	by             *link  // nil: the server
	opens          bool   // it began its session
	handed         bool   // it arrived, and was not acknowledged
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
	if n.src == topics.Server {
		l.hear(n.text)
	} else {
		l.hear(told("message", n.src, n.room, n.text))
	}
	if l.mute {
		l.owes = append(l.owes, n)
	}
}

// fails is an error at a connection.
func (l *link) fails(room, what string) { l.arrive(&note{room: room, src: topics.Server, text: what}) }

// mayNow reports whether what l said in a room may be delivered.
//
// FAULT: of a connection that has ended it is not asked again.
func (m *model) mayNow(l *link, room string) bool {
	if l.over {
		return l.may[room]
	}
	return m.may[place{room, l.name}]
}

// back is what l did not acknowledge in a room.
func (l *link) back(room string) (owed []*note) {
	for _, n := range l.owes {
		if n.room == room {
			n.handed = true
			owed = append(owed, n)
		}
	}
	l.owes = slices.DeleteFunc(l.owes, func(n *note) bool { return n.room == room })
	return owed
}

// must hands over what the server says: it waits beyond any limit.
func (m *model) must(n *note, to *stay) {
	switch {
	case to.link != nil:
		to.link.arrive(n)
	case !to.until.IsZero():
		to.waiting = append(to.waiting, n)
	}
}

// fail tells the senders of what waits that it did not arrive.
func (m *model) fail(s *stay) {
	waiting := s.waiting
	s.waiting = nil
	for _, n := range waiting {
		if n.handed && m.talks[n.talk()] {
			continue // it may have arrived; the bye of the session says the rest
		}
		if n.opens {
			delete(m.talks, n.talk())
		}
		m.tell(n, topics.Offline)
	}
}

func (n *note) talk() talk { return talkOf(n.room, n.session, n.src, n.dst) }

func (n *note) refused(code topics.Code) string {
	return failure(n.room, code, n.kind, n.session, n.dst)
}

// tell tells the sender that n failed: on its connection, on the next, or when it
// is back.
func (m *model) tell(n *note, code topics.Code) {
	if n.by == nil {
		return
	}
	if n.by.reads[n.room] {
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
		l.fails(room, n.refused(code))
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
	switch {
	case to.link != nil:
		to.link.arrive(n)
	case to.away && to.until.IsZero():
		to.until = m.now.Add(m.hold)
		fallthrough
	default:
		if n.opens {
			m.supersede(n, to)
		}
		if len(to.waiting) >= m.held {
			return topics.Busy
		}
		to.waiting = append(to.waiting, n)
	}
	if n.opens {
		m.talks[n.talk()] = true
	}
	return 0
}

// supersede drops the session of the same sender that began to wait before: its
// sender is told of each start and offer.
func (m *model) supersede(n *note, to *stay) {
	at := slices.IndexFunc(to.waiting, func(old *note) bool {
		return old.opens && !old.handed && old.src == n.src && old.session != n.session
	})
	if at < 0 {
		return
	}
	session := to.waiting[at].session
	for _, old := range slices.Clone(to.waiting) {
		if old.src != n.src || old.session != session || old.handed {
			continue
		}
		to.waiting = slices.DeleteFunc(to.waiting, func(o *note) bool { return o == old })
		delete(m.talks, old.talk())
		if old.kind == "start" || old.kind == "offer" {
			m.tell(old, topics.Offline)
		}
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
			l.fails(room, failure(room, topics.Forbidden, kind, "", ""))
		}
		return topics.Forbidden
	}
	for _, o := range m.links {
		if o != l && o.reads[room] {
			o.hear(told("all", l.name, room, text))
		}
	}
	m.see(told("all", l.name, room, text))
	return 0
}
