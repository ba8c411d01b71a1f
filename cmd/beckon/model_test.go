package main

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// model is what package topics says of rooms, without locks, queues or packets. A
// method is something that happens; it notes what everybody is to hear of it, in
// the words of told and failure.
type model struct {
	now    time.Time
	device string // the name of the one device
	held   int    // messages that wait for a peer, at most
	open   int    // sessions of a peer, at most
	grace  time.Duration
	hold   time.Duration

	may   map[place]bool
	stays map[place]*stay
	talks map[talk]bool // the sessions that are open
	links []*link       // the connections that live
	seen  []string      // what the observer is to see
}

type place struct{ room, name string }

// talk is a session between a and b, of which a sorts first.
type talk struct{ room, session, a, b string }

func talkOf(room, session, x, y string) talk {
	return talk{room, session, min(x, y), max(x, y)}
}

// link is a connection.
type link struct {
	id    string // "alice#3"
	name  string
	at    entrance
	reads map[string]bool // rooms it subscribed in
	hears []string        // what it is to hear
	over  bool
	ended topics.Code // why the server ended it
	mute  bool        // it acknowledges nothing
	owes  []owed
	told  map[string]int // how often, in which words

	// Of JSON: its client may resume it, for the grace or for long; meanwhile it is
	// lost. Its client proves what it got by the frames that it counts.
	long   bool
	lost   bool
	until  time.Time
	proven func(owed) bool
}

// owed is a message that was handed to a connection, which may not have got it.
type owed struct {
	*note
	nth int // of those that it was told in the same words
}

// stay is a peer of a room, from its join until it is given up; a device stays
// listed after that.
type stay struct {
	place
	link    *link     // nil in its grace, and when it is away
	last    *link     // the newest
	until   time.Time // the end of its grace; zero for none
	away    bool      // a device that is offline
	barred  bool      // a device that may not be there any more
	shown   string    // its presence
	waiting []*note
}

func newModel(now time.Time) *model {
	return &model{now: now, may: map[place]bool{}, stays: map[place]*stay{}, talks: map[talk]bool{}}
}

func (l *link) json() bool { return l.at.protocol == "JSON" }

func (l *link) via() string {
	if l.json() {
		return "ws"
	}
	return "mqtt"
}

func (m *model) see(what string) { m.seen = append(m.seen, what) }

// here reports whether the peer has a connection that lives.
func (s *stay) here() bool { return s.link != nil && !s.link.lost }

// connect opens a connection.
func (m *model) connect(id, name string, at entrance, mute bool) *link {
	l := &link{id: id, name: name, at: at, mute: mute, reads: map[string]bool{}}
	m.links = append(m.links, l)
	return l
}

// join makes l the connection of the peer of its name, and reports whether it
// may.
func (m *model) join(l *link, room string) bool {
	at := place{room, l.name}
	if !m.may[at] {
		if l.json() {
			l.hear(failure(room, topics.Forbidden, "join", "", ""))
		}
		return false
	}
	s := m.stays[at]
	if s == nil {
		s = &stay{place: at}
		m.stays[at] = s
	}
	arrived := s.link != l
	if s.link != nil && arrived {
		m.replace(s)
	}
	s.link, s.last, s.until, s.away = l, l, time.Time{}, false
	l.reads[room] = true
	m.show(s, "online by "+l.via()+" as "+l.name)
	if arrived || l.json() { // which is answered, however often
		l.hear("joined " + room)
	}
	m.release(s)
	return true
}

// release hands over what waited.
func (m *model) release(s *stay) {
	waiting := s.waiting
	s.waiting = nil
	for _, n := range waiting {
		switch {
		case n.by != nil && !m.may[place{s.room, n.by.name}]:
			if n.opens {
				delete(m.talks, n.talk())
			}
			m.tell(n, topics.Forbidden)
		case n.kind == "all":
			s.link.hear(told("all", n.src, n.room, n.text))
		case m.overdue(n, s):
			m.failOne(n)
		default:
			s.link.arrive(n)
		}
	}
}

// replace takes the peer from the connection it has.
func (m *model) replace(s *stay) {
	old := s.link
	m.takeBack(s)
	old.hear(failure(s.room, topics.Replaced, "", "", ""))
	delete(old.reads, s.room)
	if len(old.reads) == 0 {
		old.ended = topics.Replaced
		m.drop(old)
	}
}

func (m *model) drop(l *link) {
	l.over, l.lost = true, false
	clear(l.reads)
	m.links = slices.DeleteFunc(m.links, func(o *link) bool { return o == l })
}

// show makes a presence known. No presence is "".
func (m *model) show(s *stay, text string) {
	if s.shown != text {
		s.shown = text
		m.see(told("presence", s.name, s.room, text))
	}
}

// part leaves a room, and keeps the connection.
func (m *model) part(l *link, room string) {
	if s := m.stays[place{room, l.name}]; s != nil && s.link == l {
		if !l.json() { // which leaves when it has what it was sent
			m.takeBack(s)
		}
		m.giveUp(s)
	} else if l.json() && !l.reads[room] {
		l.hear(failure(room, topics.Forbidden, "leave", "", ""))
	}
	if l.json() {
		delete(l.reads, room)
	}
}

// end is a connection that left, or was lost.
func (m *model) end(l *link, left bool) {
	most := m.grace
	if l.long {
		most = resumeTime
	}
	if l.json() && !left && most > 0 && len(l.reads) > 0 {
		l.lost, l.until = true, m.now.Add(most)
		return
	}
	if l.json() && left {
		l.owes = nil // it has, or does not want, what went out
	}
	m.close(l, left)
}

// resumeTime is what a client has that says it resumes.
const resumeTime = 30 * time.Second

// resume is the client of l being back on another connection; whole says that it
// goes on where it was.
func (m *model) resume(l *link, whole bool) {
	if l.lost {
		l.lost = false
		for _, s := range m.sorted() {
			if s.link == l {
				m.release(s)
			}
		}
	}
	if !whole {
		m.close(l, false)
	}
}

// close ends a connection for good.
func (m *model) close(l *link, left bool) {
	m.drop(l)
	for _, s := range m.sorted() {
		if s.link != l {
			continue
		}
		m.takeBack(s)
		if s.link = nil; left || m.grace == 0 {
			m.giveUp(s)
		} else {
			s.until = m.now.Add(m.grace)
			m.expire(s)
		}
	}
}

// giveUp ends a stay: what waits has failed, the sessions end at the other side. A
// device is still to be woken for what has yet to begin.
func (m *model) giveUp(s *stay) {
	held := m.holdOn(s)
	m.fail(s, s.waiting)
	s.waiting = nil
	for _, t := range slices.SortedFunc(maps.Keys(m.talks), func(a, b talk) int { return cmp.Compare(a.session, b.session) }) {
		if t.room != s.room || t.a != s.name && t.b != s.name ||
			slices.ContainsFunc(held, func(n *note) bool { return n.talk() == t }) {
			continue
		}
		delete(m.talks, t)
		n := &note{room: s.room, src: s.name, dst: t.a, kind: "bye", session: t.session, text: `{"type":"bye","session":"` + t.session + `","reason":"gone"}`}
		if t.a == s.name {
			n.dst = t.b
		}
		if to := m.stays[place{s.room, n.dst}]; to != nil {
			m.must(n, to)
			m.see(told("message to "+n.dst, n.src, n.room, n.text))
		}
	}
	s.waiting = held
	s.link, s.until = nil, time.Time{}
	if m.listed(s) {
		s.away = true
		m.show(s, "offline")
		return
	}
	m.show(s, "")
	delete(m.stays, s.place)
}

// grant gives a name a room, or takes it.
func (m *model) grant(at place, may bool) {
	if m.may[at] = may; may {
		return
	}
	for _, l := range m.links {
		if l.name != at.name || !l.reads[at.room] {
			continue
		}
		if s := m.stays[at]; s != nil && s.link == l {
			m.takeBack(s)
			l.hear(failure(at.room, topics.Forbidden, "", "", ""))
			s.barred = true
			m.giveUp(s)
		}
		delete(l.reads, at.room)
	}
	if s := m.stays[at]; s != nil {
		m.unlist(s)
	}
}

// listed reports whether s stays, as offline, when it is given up.
func (m *model) listed(s *stay) bool { return s.name == m.device && !s.barred }

// unlist gives up a device that is not there and may not be.
func (m *model) unlist(s *stay) {
	if s.name == m.device && s.link == nil {
		s.barred = true
		m.giveUp(s)
	}
}

// revoke takes its account from a name: its connections end, for good.
func (m *model) revoke(name string) {
	for _, l := range slices.Clone(m.links) {
		if l.name != name {
			continue
		}
		for room := range l.reads {
			l.hear(failure(room, topics.Unauthorized, "", "", ""))
		}
		if l.json() {
			l.hear(failure("", topics.Unauthorized, "", "", ""))
		}
		l.ended = topics.Unauthorized
		for _, s := range m.sorted() {
			s.barred = s.barred || s.link == l
		}
		m.close(l, true)
	}
	for _, s := range m.sorted() {
		if s.name == name {
			m.unlist(s)
		}
	}
}

// restart is the server stopping and starting again: nobody hears a bye.
func (m *model) restart() {
	for _, l := range slices.Clone(m.links) {
		l.ended = topics.Unavailable
		m.drop(l)
	}
	clear(m.stays)
	clear(m.talks)
}

// pass lets time go by.
func (m *model) pass(until time.Time) {
	for {
		next, then := until, func() {}
		due := func(at time.Time, do func()) {
			if !at.IsZero() && !at.After(next) {
				next, then = at, do
			}
		}
		last := true
		for _, s := range m.sorted() {
			due(s.until, func() { last = false; m.giveUp(s) })
			for _, n := range s.waiting {
				if s.ages(n) {
					due(n.until, func() { last = false; m.expire(s) })
				}
			}
		}
		for _, l := range m.links {
			if l.lost {
				due(l.until, func() { last = false; m.close(l, true) })
			}
		}
		m.now = next
		if then(); last {
			return
		}
	}
}

// expire fails what has waited for a peer as long as it may.
func (m *model) expire(s *stay) {
	var late []*note
	s.waiting = slices.DeleteFunc(s.waiting, func(n *note) bool {
		is := m.overdue(n, s)
		if is {
			late = append(late, n)
		}
		return is
	})
	for _, n := range late {
		m.failOne(n)
	}
}

func (m *model) sorted() []*stay {
	return slices.SortedFunc(maps.Values(m.stays), func(a, b *stay) int {
		return cmp.Or(cmp.Compare(a.room, b.room), cmp.Compare(a.name, b.name))
	})
}
