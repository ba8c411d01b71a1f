package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// survivor is a peer that comes back, with jitter, whenever its connection ends,
// and writes all it sends and gets into a ledger.
type survivor struct {
	name string
	site *site
	room string

	doors    []entrance    // one after the other
	to       []string      // whom it writes to, in turns
	kind     string        // of its messages: "offer", or "msg"
	padding  int           // bytes that make a message longer
	pace     time.Duration // from one message to the next, on average
	patience time.Duration // for an answer, before it comes anew
	away     time.Duration // between two connections, on average
	resumes  bool          // by JSON it goes on where it was

	ledger *ledger
	t      testing.TB

	mu      sync.Mutex
	present map[string]bool // as its newest connection was told
	visits  int
	memory  memory
	numbers map[string]int
	round   int

	sending, living context.Context
	rest, leave     context.CancelFunc // end the former, and the latter
	here            chan struct{}      // closed when it has joined the first time
	begin           <-chan struct{}    // closed when it may write
	came            sync.Once
	ask             chan chan error
	done            chan struct{}
}

// start lets the survivor live until it is stopped, or the test ends.
func (s *survivor) start(t testing.TB) {
	s.t = t
	s.living, s.leave = context.WithCancel(context.Background())
	s.sending, s.rest = context.WithCancel(s.living)
	s.here, s.done, s.ask = make(chan struct{}), make(chan struct{}), make(chan chan error)
	s.numbers = make(map[string]int)
	go s.live()
	t.Cleanup(s.stop)
}

// stop lets it leave.
func (s *survivor) stop() {
	s.leave()
	<-s.done
}

// cleanups keeps for each visit what is kept for the end of the test otherwise.
type cleanups struct {
	testing.TB
	all []func()
}

func (c *cleanups) Cleanup(f func()) { c.all = append(c.all, f) }

func (c *cleanups) run() {
	for _, f := range c.all {
		f()
	}
}

func (s *survivor) live() {
	defer close(s.done)
	var ears sync.WaitGroup
	defer ears.Wait()
	over := make(chan struct{})
	defer close(over)
	for s.living.Err() == nil {
		ends := &cleanups{TB: s.t}
		c, err := s.connect(ends)
		if err == nil {
			conn := s.ledger.opened(s.name, c.at)
			e := &ear{survivor: s, conn: conn, welcome: make(chan struct{}), answers: make(chan struct{}, 1), present: make(map[string]bool)}
			// A client may hand over a message after the end of its connection,
			// and acknowledged it then.
			ears.Go(func() { e.listen(c, over) })
			left := s.visit(c, e)
			s.ledger.closed(conn, !left, time.Now())
		}
		ends.run()
		s.pause(s.living, s.away)
	}
}

// pause waits for a time around d, or the end of ctx.
func (s *survivor) pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d/2 + rand.N(d)):
	case <-ctx.Done():
	}
}

func (s *survivor) connect(t testing.TB) (c *caller, err error) {
	c = &caller{t: t, name: s.name, at: s.doors[s.visits%len(s.doors)], room: s.room, events: make(chan event, 100_000), ended: make(chan string, 1)}
	s.visits++
	switch c.at.protocol {
	case "MQTT 3.1.1":
		c.line, err = s.site.mqtt3(t, c)
	case "MQTT 5":
		c.line, err = s.site.mqtt5(t, c)
	default:
		c.line, err = s.site.json(t, c, func(l *lineJSON) {
			if s.resumes {
				s.memory.resume(l)
			}
		})
	}
	return c, err
}

// visit is one connection, from its join. It reports whether the survivor left.
func (s *survivor) visit(c *caller, e *ear) (left bool) {
	defer c.cut()
	if s.within(c, func() error { return c.line.join(s.room) }) != nil {
		return false
	}
	select {
	case <-e.welcome:
	case <-c.ended:
		return false
	case <-time.After(s.patience):
		return false
	}
	s.mu.Lock()
	if s.memory.resumed {
		maps.Copy(s.present, e.present)
	} else {
		s.present = e.present
	}
	s.mu.Unlock()
	s.came.Do(func() { close(s.here) })
	begin := s.begin
	for {
		turn, stop := s.turn(begin == nil)
		select {
		case <-begin:
			begin = nil
		case <-s.living.Done():
			stop()
			c.leave()
			return true
		case <-c.ended:
			stop()
			return false
		case answer := <-s.ask:
			stop()
			err := s.question(c, e)
			answer <- err
			if err != nil {
				return false
			}
		case <-turn:
			if s.write(c) != nil {
				return false
			}
		}
	}
}

// turn is the time to write the next message; never, if it rests.
func (s *survivor) turn(begun bool) (<-chan time.Time, func()) {
	if !begun || s.sending.Err() != nil || len(s.to) == 0 {
		return nil, func() {}
	}
	timer := time.NewTimer(s.pace/2 + rand.N(s.pace))
	return timer.C, func() { timer.Stop() }
}

// within does something on a connection, which is cut if that takes too long.
func (s *survivor) within(c *caller, do func() error) error {
	timer := time.AfterFunc(s.patience, c.cut)
	defer timer.Stop()
	return do()
}

func (s *survivor) write(c *caller) error {
	to := s.to[s.round%len(s.to)]
	s.round++
	s.numbers[to]++
	p := parcel{s.name, to, s.numbers[to]}
	payload := fmt.Sprintf(`{"type":%q,"session":%q,"sdp":%q}`, s.kind, p.session(), strings.Repeat("v", s.padding))
	s.ledger.sends(p, time.Now())
	fate := 0
	err := s.within(c, func() (err error) {
		fate, err = c.line.send(s.room, to, payload)
		return err
	})
	switch {
	case err != nil:
		s.ledger.unacknowledged(p, time.Now())
	case fate != 0:
		s.ledger.fails(p, time.Now())
	default:
		s.ledger.accepts(p, time.Now())
	}
	return err
}

var errNoAnswer = errors.New("the server does not answer")

// question asks the server something, whose answer comes after all that is on its
// way.
func (s *survivor) question(c *caller, e *ear) error {
	return s.within(c, func() error {
		if _, err := c.line.send(s.room, topics.Server, `{"type":"ice"}`); err != nil {
			return err
		}
		select {
		case <-e.answers:
			return nil
		case <-c.ended:
			return errNoAnswer
		case <-time.After(s.patience):
			return errNoAnswer
		}
	})
}

// hasAll waits until the survivor, connected, has got what was on its way.
func (s *survivor) hasAll() {
	for s.living.Err() == nil {
		answer := make(chan error, 1)
		select {
		case s.ask <- answer:
			if <-answer == nil {
				return
			}
		case <-time.After(atMost):
			s.t.Errorf("%s does not come back", s.name)
			return
		}
	}
}

// sees returns who is there, as the survivor was told.
func (s *survivor) sees() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[string]bool)
	for name, is := range s.present {
		if is {
			there[name] = true
		}
	}
	return there
}

// ear takes what comes by one connection.
type ear struct {
	*survivor
	conn    int
	once    sync.Once
	welcome chan struct{} // closed by the hello
	answers chan struct{}
	present map[string]bool // guarded by the survivor's mu
}

func (e *ear) listen(c *caller, over <-chan struct{}) {
	for {
		select {
		case event := <-c.events:
			e.take(event)
		case <-over:
			return
		}
	}
}

func (e *ear) take(ev event) {
	var m struct {
		Type, Session, Reason string
	}
	_ = json.Unmarshal([]byte(ev.text), &m)
	p, named := parcelOf(m.Session)
	switch {
	case ev.kind == "joined":
		e.once.Do(func() {
			e.ledger.joined(e.conn, time.Now())
			close(e.welcome)
		})
	case ev.kind == "presence":
		e.mu.Lock()
		e.present[ev.from] = !ev.gone() && !strings.Contains(ev.text, `"online":false`)
		e.mu.Unlock()
	case ev.kind == "error" && named:
		e.ledger.fails(p, time.Now())
	case ev.kind == "message" && ev.from == topics.Server:
		select {
		case e.answers <- struct{}{}:
		default:
		}
	case m.Type == topics.TypeBye && named:
		if p.from == e.name { // otherwise it ends what this one received
			e.ledger.ends(p, time.Now())
		}
	case ev.kind == "message" && named && p.from == ev.from && p.to == e.name:
		e.ledger.receives(p, e.conn)
	case ev.kind == "message":
		e.t.Errorf("%s got %v, which is not for it", e.name, ev)
	}
}
