package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// model is what PROTOCOL.md says of rooms, without locks, queues or packets. A
// method is something that happens; it notes what everybody is to hear of it, in
// the words of event.short.
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
	may   map[string]bool // rooms that were granted when it came; when it ended, by then
	reads map[string]bool // rooms it subscribed in
	hears []string        // what it is to hear
	over  bool
	ended topics.Code // why the server ended it
	mute  bool        // it acknowledges nothing
	owes  []*note     // what it did not acknowledge
}

// stay is a peer of a room, from its join until it is given up; a device stays
// listed after that.
type stay struct {
	place
	link    *link     // nil in its grace, and when it is away
	until   time.Time // the end of its grace, or of what waits for it; zero for none
	away    bool      // a device that is offline
	shown   string    // its presence
	waiting []*note
}

// note is a message.
type note struct {
	room, src, dst string
	kind, session  string
	text           string // as event.short has it
	by             *link  // nil: the server
	opens          bool   // it began its session
	handed         bool   // it arrived, and was not acknowledged
}

func newModel(now time.Time) *model {
	return &model{now: now, may: map[place]bool{}, stays: map[place]*stay{}, talks: map[talk]bool{}}
}

func told(kind, from, room, text string) string {
	return fmt.Sprintf("%s of %s in %s: %s", kind, from, room, text)
}

func failure(room string, code topics.Code, about, session, to string) string {
	return fmt.Sprintf("error %d in %s about %s %s to %s", code, room, about, session, to)
}

func (l *link) json() bool { return l.at.protocol == "JSON" }

func (l *link) via() string {
	if l.json() {
		return "ws"
	}
	return "mqtt"
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

func (m *model) see(what string) { m.seen = append(m.seen, what) }

// connect opens a connection.
func (m *model) connect(id, name string, at entrance, mute bool) *link {
	l := &link{id: id, name: name, at: at, mute: mute, reads: map[string]bool{}, may: m.rooms(name)}
	m.links = append(m.links, l)
	return l
}

// rooms are those that a name may join.
func (m *model) rooms(name string) map[string]bool {
	rooms := map[string]bool{}
	for at, may := range m.may {
		if may && at.name == name {
			rooms[at.room] = true
		}
	}
	return rooms
}

// mayNow reports whether what l said in a room may be delivered.
//
// FAULT: of a connection that has ended it is not asked again.
func (m *model) mayNow(l *link, room string) bool {
	if l.over {
		return l.may[room]
	}
	return m.may[place{room, l.name}]
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
	s.link, s.until, s.away = l, time.Time{}, false
	l.reads[room] = true
	m.show(s, "online by "+l.via()+" as "+l.name)
	if arrived || l.json() { // which is answered, however often
		l.hear("joined " + room)
	}
	waiting := s.waiting
	s.waiting = nil
	for _, n := range waiting {
		if n.by != nil && !m.mayNow(n.by, room) {
			m.tell(n, topics.Forbidden)
			continue
		}
		l.arrive(n)
	}
	return true
}

// replace takes the peer from the connection it has.
func (m *model) replace(s *stay) {
	old := s.link
	s.waiting = append(old.back(s.room), s.waiting...)
	old.fails(s.room, failure(s.room, topics.Replaced, "", "", ""))
	delete(old.reads, s.room)
	if len(old.reads) == 0 {
		old.ended = topics.Replaced
		m.drop(old)
	}
}

func (m *model) drop(l *link) {
	l.over, l.may = true, m.rooms(l.name)
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
	m.drop(l)
	for _, s := range m.sorted() {
		if s.link != l {
			continue
		}
		s.waiting = append(l.back(s.room), s.waiting...)
		if s.link = nil; left || m.grace == 0 {
			m.giveUp(s)
		} else {
			s.until = m.now.Add(m.grace)
		}
	}
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

// giveUp ends a stay: what waits has failed, the sessions end at the other side.
func (m *model) giveUp(s *stay) {
	m.fail(s)
	for _, t := range slices.SortedFunc(maps.Keys(m.talks), func(a, b talk) int { return cmp.Compare(a.session, b.session) }) {
		if t.room != s.room || t.a != s.name && t.b != s.name {
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
	s.link, s.until = nil, time.Time{}
	if s.name == m.device {
		s.away = true
		m.show(s, "offline")
		return
	}
	m.show(s, "")
	delete(m.stays, s.place)
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
			l.fails(at.room, failure(at.room, topics.Forbidden, "", "", ""))
			m.giveUp(s)
		}
		delete(l.reads, at.room)
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
		m.end(l, true)
		clear(l.may)
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
		var next *stay
		for _, s := range m.stays {
			if !s.until.IsZero() && !s.until.After(until) && (next == nil || s.until.Before(next.until)) {
				next = s
			}
		}
		if next == nil {
			m.now = until
			return
		}
		m.now = next.until
		if next.away {
			next.until = time.Time{}
			m.fail(next)
		} else {
			m.giveUp(next)
		}
	}
}

func (m *model) sorted() []*stay {
	return slices.SortedFunc(maps.Values(m.stays), func(a, b *stay) int {
		return cmp.Or(cmp.Compare(a.room, b.room), cmp.Compare(a.name, b.name))
	})
}
