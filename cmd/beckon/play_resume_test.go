package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// mind is what a client of JSON knows of its session, by which it resumes it. It
// proves what it got by answering pings, or, if it is mute, when it is told to.
type mind struct {
	mute bool

	mu     sync.Mutex // guards what follows
	frames []received // of the session, in order
	key    string
	proven int    // frames
	asked  int    // frames up to the newest ping
	base   int    // frames before the first one of this connection; it may be "negative"
	next   int    // frames so far: those that come again are known
	back   bool   // it asked to resume, and waits for the answer
	whole  bool   // it was resumed
	wrong  string // what came that should not have
	ws     *websocket.Conn
}

type received struct {
	text string
	said string // a direct message, in the words of told
	at   time.Time
}

// clientJSON connects a client that has a mind.
func (p *play) clientJSON(one *party) *caller {
	c := &caller{t: p.tb, name: one.name, at: one.at, events: make(chan event, 10000), ended: make(chan string, 1)}
	mind := one.mind
	l, err := p.site.json(p.tb, c, func(l *lineJSON) {
		mind.ws, l.known = l.ws, mind.known
		l.ws.SetPingHandler(mind.pinged)
		if one.long {
			l.more = `,"resume":true`
		}
	})
	if err != nil {
		p.Fatalf("%s does not connect: %v", one.name, err)
	}
	c.line = l
	one.proven = func(o owed) bool { return one.mind.proves(o) }
	return c
}

// blank comes in place of what was said of a room that was taken away.
const blank = `{"type":"pong"}`

// known takes a frame, and reports whether it came before.
func (m *mind) known(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.back {
		m.back = false
		if m.whole = strings.Contains(text, `"resumed":true`); m.whole {
			m.proven, m.base = m.next, m.next-1
			return false // it has no number
		}
		m.frames, m.next, m.proven = nil, 0, 0
	}
	if m.next < len(m.frames) {
		if was := m.frames[m.next].text; was != text && text != blank && m.wrong == "" {
			m.wrong = fmt.Sprintf("frame %d is %s, and was %s", m.next+1, text, was)
		}
		m.frames[m.next].at = time.Now()
		m.next++
		return true
	}
	f := received{text: text, at: time.Now()}
	events := make(chan event, 100)
	(&lineJSON{replies: make(chan reply, 1)}).take(text, events)
	close(events)
	var is struct {
		Type, Resume string
		ID           json.RawMessage
	}
	_ = json.Unmarshal([]byte(text), &is)
	for e := range events {
		switch {
		case e.kind == "message":
			f.said = told(e.kind, e.from, e.room, e.text)
		case e.kind == "error" && is.ID == nil:
			f.said = e.failure()
		}
	}
	if is.Type == "joined" {
		m.key = is.Resume
	}
	m.frames, m.next = append(m.frames, f), m.next+1
	return false
}

// pinged answers a ping, which tells how many frames went before it. An answer
// without that is a sign of life only.
func (m *mind) pinged(payload string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := strconv.Atoi(payload)
	if err != nil {
		m.wrong = "a ping says " + payload
	}
	if m.asked = m.base + n; m.mute {
		payload = ""
	} else {
		m.proven = m.asked
	}
	return m.pong(payload)
}

func (m *mind) pong(payload string) error {
	_ = m.ws.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(atMost)) // else the reader notices
	return nil
}

func (m *mind) proves(o owed) bool {
	m.mu.Lock()
	proven := m.proven
	m.mu.Unlock()
	return m.has(o, proven)
}

// has reports whether o is among the first n frames.
func (m *mind) has(o owed, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	times := 0
	for _, f := range m.frames[:min(n, len(m.frames))] {
		if f.said == o.told() {
			times++
		}
	}
	return times >= o.nth
}

// check demands that nothing came wrongly, and that the server has asked in time.
func (m *mind) check(p *play) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wrong != "" {
		p.Fatal(m.wrong)
	}
	if m.next != len(m.frames) {
		p.Fatalf("%d of %d frames came again", m.next, len(m.frames))
	}
	for i, f := range m.frames {
		if !m.mute && i >= m.proven && time.Since(f.at) > time.Second {
			p.Fatalf("after %v nobody asked whether this has arrived: %s", time.Since(f.at), f.text)
		}
	}
}

func (m *mind) canProve() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked > m.proven
}

func (m *mind) prove() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.proven = m.asked
	_ = m.pong(strconv.Itoa(m.asked - m.base))
	return m.proven
}

// again is the mind of the client when it has lost its connection, or gives it up,
// and says that it got less frames than it did.
func (m *mind) again(less int) (next *mind, seen int, kept bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen = max(0, len(m.frames)-less)
	next = &mind{mute: m.mute, frames: slices.Clone(m.frames), key: m.key, next: min(seen, len(m.frames)), back: true}
	return next, seen, m.proven <= seen && seen <= len(m.frames)
}

// prove lets a client say what it has.
func (p *play) prove() {
	one := pick(p, "who", slices.DeleteFunc(slices.Clone(p.parties), func(o *party) bool { return o.mind == nil || !o.mind.canProve() }))
	p.say("%s proves that it has got %d frames", one.id, one.mind.prove())
	p.flush(one)
}

// resume is a client coming back to its session, which was lost, or is over, or
// seems to live. It may say that it got less than it did, and gets that again; what
// nobody remembers is a gap.
func (p *play) resume() {
	from := slices.Clone(p.absent)
	for _, one := range p.parties {
		if one.mind != nil && len(one.reads) > 0 {
			from = append(from, one)
		}
	}
	one := pick(p, "who", from)
	room := p.roomOf(one)
	mind, seen, kept := one.mind.again(pick(p, "less", []int{0, 0, 0, 1, 3, -1000}))
	tooLate := slices.ContainsFunc(one.owes, func(o owed) bool {
		return !o.until.IsZero() && !o.until.After(p.now) && !mind.has(o, seen)
	})
	whole := !one.over && one.reads[room] && kept && !tooLate
	lost := slices.Contains(p.absent, one)
	p.say("%s resumes in %s, and got %d frames of %d; alive: %v, all there: %v", one.id, room, seen, len(mind.frames), !lost, whole)
	p.absent = slices.DeleteFunc(p.absent, func(o *party) bool { return o == one })
	old := *one
	next := one
	if !whole {
		next = p.newcomer(one.name, one.at, one.mute)
		next.long = true
	}
	next.mind = mind
	next.c = p.clientJSON(next)
	err := next.c.line.(*lineJSON).resume(room, mind.key, seen)
	if next.mind.whole != whole {
		p.Fatalf("it was resumed: %v (%v)", next.mind.whole, err)
	}
	if !one.over {
		p.model.resume(one.link, whole)
	}
	if !lost {
		old.c.t = p.tb
		old.c.isEnded("", "4511")
		old.c.line.leave()
	}
	if whole {
		next.long = true
		next.hear("joined " + room)
		if lost {
			p.parties = append(p.parties, next)
		}
		return
	}
	p.parties = slices.DeleteFunc(p.parties, func(o *party) bool { return o == one })
	p.parties = append(p.parties, next)
	if may := p.join(next.link, room); may != (err == nil) {
		p.Fatalf("%s joins %s: %v; it may: %v", next.id, room, err, may)
	}
	p.stayOrGo(next)
}

func (l *lineJSON) resume(room, key string, seen int) error {
	r, err := l.ask(func(id int) string {
		return fmt.Sprintf(`{"type":"join","id":%d,"room":%q,"peer":%q,"presence":{"name":%q},"resume":%q,"seen":%d}`, id, room, l.me, l.me, key, seen)
	})
	if err == nil && r.code != 0 {
		err = fmt.Errorf("the join was answered with %s", r.text)
	}
	return err
}
