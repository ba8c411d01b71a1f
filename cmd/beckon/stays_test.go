package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/topics"
)

// lodge is the bridge on the broker, without a door and on fake time: what a client
// is told and not told when its connection is lost, or it resumes its session.
type lodge struct {
	t      *testing.T
	broker *broker.Broker
	bridge bridge.Config
	told   atomic.Int64 // bytes that clients are not known to have

	// subscribe and publish are done in place of those of the bus; nil: as they are.
	subscribe func(filters []string, then func(...string) error) error
	publish   func(topics.Address, func() error) error

	mu    sync.Mutex
	rooms map[string]string // what a name may be in, but for any room
	views map[string]string // whom a name may view, but for being a peer
}

// lodged is a session on the broker that a test comes between.
type lodged struct {
	*broker.Session
	l *lodge
}

func (b lodged) Subscribe(filters ...string) error {
	if then := b.l.subscribe; then != nil {
		b.l.subscribe = nil // once
		return then(filters, b.Session.Subscribe)
	}
	return b.Session.Subscribe(filters...)
}

func (b lodged) Publish(a topics.Address, payload []byte) error {
	if then := b.l.publish; then != nil && len(payload) == 0 {
		b.l.publish = nil
		return then(a, func() error { return b.Session.Publish(a, payload) })
	}
	return b.Session.Publish(a, payload)
}

// inLodge runs a test on a broker with that configuration.
func inLodge(t *testing.T, c broker.Config, test func(*lodge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lodge{t: t, rooms: make(map[string]string), views: make(map[string]string)}
		c.Authenticate = func(_ context.Context, c topics.Credentials) (topics.Identity, error) { return l.identity(c.Name) }
		c.Still = func(id topics.Identity) (topics.Identity, error) { return l.identity(id.Name) }
		var err error
		if l.broker, err = broker.New(c); err != nil {
			l.t.Fatal(err)
		}
		l.bridge = bridge.Config{
			Connect: func(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
				s, err := l.broker.Connect(id, via, inbox)
				return lodged{s, l}, err
			},
			Renew:        func(bus bridge.Bus, id topics.Identity) error { return bus.(lodged).Renew(id) },
			Authenticate: c.Authenticate, Queued: &l.told,
			Root: topics.DefaultRoot, Via: "ws", Logger: slog.New(slog.DiscardHandler),
		}
		defer func() {
			l.bridge.Close()
			if err := l.broker.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(l)
	})
}

// identity is what name may do by now.
func (l *lodge) identity(name string) (topics.Identity, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := topics.Identity{Name: name, Grants: []topics.Grant{{Room: "*", Role: topics.Peer}}}
	if room := l.rooms[name]; room != "" {
		id.Grants[0].Room = room
	}
	if of := l.views[name]; of != "" {
		id.Grants[0].Role, id.Grants[0].Of = topics.Viewer, of
	}
	return id, nil
}

// narrow leaves name one room.
func (l *lodge) narrow(name, room string) {
	l.mu.Lock()
	l.rooms[name] = room
	l.mu.Unlock()
	l.broker.Recheck()
}

// limit leaves name the right to view one peer, when it is asked next.
func (l *lodge) limit(name, of string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.views[name] = of
}

// wait lets that time pass.
func (l *lodge) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lodger is a connection of a client.
type lodger struct {
	*bridge.Session
	t *testing.T

	mu    sync.Mutex
	took  []string // frames
	full  bool     // it takes no more
	ended *topics.Error
	key   string // by which it is resumed
}

func (l *lodge) connect() *lodger {
	c := &lodger{t: l.t}
	c.Session = bridge.NewSession(&l.bridge, bridge.Client{Out: c.out, End: func(why *topics.Error) { c.ended = why }})
	return c
}

// join connects as that peer, and joins those rooms.
func (l *lodge) join(peer string, rooms ...string) *lodger {
	l.t.Helper()
	c := l.connect()
	for _, room := range rooms {
		c.say(`{"type":"join","room":%q,"peer":%q,"resume":true}`, room, peer)
		joined := c.hear(`"type":"joined"`)
		var m struct{ Resume string }
		if err := json.Unmarshal([]byte(joined), &m); err != nil {
			l.t.Fatal(err)
		}
		c.key = m.Resume
	}
	return c
}

func (c *lodger) out(frame bridge.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full {
		return errors.New("full")
	}
	c.took = append(c.took, string(frame.Text()))
	return nil
}

// fill has the queue of the connection be full from now on.
func (c *lodger) fill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = true
}

func (c *lodger) say(format string, args ...any) {
	c.t.Helper()
	c.Receive(c.t.Context(), fmt.Appendf(nil, format, args...))
}

// frames are those that came since it was asked last.
func (c *lodger) frames() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := c.took
	c.took = nil
	return took
}

// hear skips to the frame that has that in it.
func (c *lodger) hear(part string) string {
	c.t.Helper()
	all := c.frames()
	for i, frame := range all {
		if strings.Contains(frame, part) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.took = append(all[i+1:len(all):len(all)], c.took...)
			return frame
		}
	}
	c.t.Fatalf("no %s came, but %s", part, all)
	return ""
}

func TestASessionThatMissedTooMuchLeavesNothingBehind(t *testing.T) {
	inLodge(t, broker.Config{Rate: -1}, func(l *lodge) {
		bob, alice := l.join("bob", "garage", "attic"), l.join("alice", "garage", "attic")
		alice.Lost()
		for range 300 {
			bob.say(`{"type":"msg","room":"garage","data":"%0100d"}`, 0)
		}
		bob.Seen(uint64(len(bob.frames())))
		back := l.connect()
		back.say(`{"type":"join","room":"garage","peer":"alice","resume":%q}`, alice.key)
		back.hear(`"resumed":false`)
		back.Close(true)
		bob.frames()
		l.wait(time.Minute)
		bob.hear(`"room":"attic","peer":"alice","presence":null`)
		bob.say(`{"type":"offer","id":1,"room":"attic","to":"alice","session":"k3","sdp":""}`)
		bob.hear(`"id":1,"type":"error","code":404`)
		bob.Close(true)
		if n := l.told.Load(); n != 0 {
			l.t.Errorf("%d bytes are remembered of sessions that are over", n)
		}
	})
}

func TestWithoutAGraceNothingIsLeftOfALostConnection(t *testing.T) {
	inLodge(t, broker.Config{Grace: -1}, func(l *lodge) {
		l.bridge.Resume = -1
		bob := l.join("bob", "garage")
		for range 5 {
			alice := l.join("alice", "garage")
			bob.say(`{"type":"msg","to":"alice","data":"%01000d"}`, 0)
			alice.Lost()
			bob.hear(`"peer":"alice","presence":null`)
		}
		bob.Close(true)
		if n := l.told.Load(); n != 0 {
			l.t.Errorf("%d bytes are remembered of sessions that are over", n)
		}
	})
}

func TestWhoResumesGetsNothingOfARoomThatWasTakenAway(t *testing.T) {
	inLodge(t, broker.Config{}, func(l *lodge) {
		alice := l.join("alice", "garage", "attic")
		bob := l.join("bob", "garage", "attic")
		bob.say(`{"type":"offer","id":1,"room":"attic","to":"alice","session":"k3","sdp":""}`)
		bob.say(`{"type":"msg","id":2,"room":"attic","to":"alice","data":"secret"}`)
		bob.say(`{"type":"msg","id":3,"room":"garage","to":"alice"}`)
		alice.Lost()
		bob.say(`{"type":"msg","id":4,"room":"attic","to":"alice","data":"secret"}`)
		bob.hear(`"type":"ok","id":4`)
		l.narrow("alice", "garage")
		for _, want := range []string{`"code":480`, `"code":480`, `"from":"alice","type":"bye"`} {
			bob.hear(want)
		}
		back := l.connect()
		back.say(`{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":2}`, alice.key)
		frames := back.frames()
		if all := strings.Join(frames, "\n"); len(frames) != 7 || strings.Contains(all, `"room":"attic","from"`) || strings.Contains(all, `"room":"attic","peer"`) {
			l.t.Errorf("alice was told\n%s", all)
		}
		for i, want := range []string{`"resumed":true,"seen":2`, `"room":"garage","peer":"bob"`, `"pong"`, `"pong"`, `"pong"`, `"room":"garage","from":"bob"`, `"code":403`} {
			if i < len(frames) && !strings.Contains(frames[i], want) {
				l.t.Errorf("frame %d is %s, want %s", i, frames[i], want)
			}
		}
	})
}

func TestWhoResumesWithLessGetsNothingThatItMayNotReadAnyMore(t *testing.T) {
	for name, lost := range map[string]func(l *lodge, alice *lodger, talk func()){
		"it came while the connection was lost": func(_ *lodge, alice *lodger, talk func()) {
			alice.Lost()
			talk()
		},
		"it came before and may not have arrived": func(_ *lodge, alice *lodger, talk func()) {
			talk()
			alice.Lost()
		},
		"the connection is not known to be lost": func(_ *lodge, _ *lodger, talk func()) { talk() },
		"the server heard of it meanwhile": func(l *lodge, alice *lodger, talk func()) {
			talk()
			alice.Lost()
			l.limit("alice", "cam1")
			l.broker.Recheck()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLodge(t, broker.Config{}, func(l *lodge) {
				alice, bob, cam := l.join("alice", "garage"), l.join("bob", "garage"), l.join("cam1", "garage")
				seen := 1 + len(alice.frames())
				lost(l, alice, func() {
					bob.say(`{"type":"msg","data":"secret"}`)
					bob.say(`{"type":"presence","presence":{"online":true,"name":"secret"}}`)
					cam.say(`{"type":"msg","to":"alice","data":1}`)
				})
				l.limit("alice", "cam1")
				back := l.connect()
				back.say(`{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":%d}`, alice.key, seen)
				all := strings.Join(back.frames(), "\n")
				if strings.Contains(all, "bob") || strings.Contains(all, "secret") {
					l.t.Errorf("a viewer of cam1 was told\n%s", all)
				}
				if n := strings.Count(all, `"from":"cam1","type":"msg","data":1`); n != 1 {
					l.t.Errorf("what is for alice came %d times:\n%s", n, all)
				}
				back.Close(true)
			})
		})
	}
}

func TestWhoResumesWithAnotherTokenForTheSameGoesOn(t *testing.T) {
	inLodge(t, broker.Config{}, func(l *lodge) {
		l.limit("alice", "cam1")
		alice, cam := l.join("alice", "garage"), l.join("cam1", "garage")
		alice.Lost()
		cam.say(`{"type":"msg","to":"alice","data":1}`)
		l.limit("alice", "") // a peer sees more
		back := l.connect()
		back.say(`{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":2}`, alice.key)
		back.hear(`"resumed":true`)
		back.hear(`"data":1`)
		back.Close(true)
	})
}

func TestWhatAJoinTookGoesToTheConnectionThatTookOver(t *testing.T) {
	inLodge(t, broker.Config{}, func(l *lodge) {
		alice, bob := l.join("alice", "garage"), l.join("bob", "garage")
		alice.Lost()
		bob.say(`{"type":"offer","id":1,"to":"alice","session":"k3","sdp":""}`)
		bob.hear(`"type":"ok","id":1`)
		var third *lodger
		l.subscribe = func(filters []string, then func(...string) error) error {
			err := then(filters...)
			third = l.join("alice", "garage")
			return err
		}
		second := l.connect()
		second.say(`{"type":"join","room":"garage","peer":"alice"}`)
		third.hear(`"type":"offer"`)
		if all := strings.Join(second.frames(), "\n"); strings.Contains(all, `"type":"offer"`) {
			l.t.Errorf("the connection that was replaced got it, too:\n%s", all)
		}
	})
}

func TestWhatAJoinTookThatFailsGoesToTheNextConnection(t *testing.T) {
	inLodge(t, broker.Config{}, func(l *lodge) {
		alice, bob := l.join("alice", "garage"), l.join("bob", "garage")
		alice.Lost()
		bob.say(`{"type":"offer","id":1,"to":"alice","session":"k3","sdp":""}`)
		bob.hear(`"type":"ok","id":1`)
		l.subscribe = func(filters []string, then func(...string) error) error {
			return errors.Join(then(filters...), topics.Errorf(topics.Forbidden, "not that"))
		}
		second := l.connect()
		second.say(`{"type":"join","room":"garage","peer":"alice"}`)
		second.hear(`"code":403`)
		if second.ended == nil {
			l.t.Fatal("the connection goes on, and nobody has the offer")
		}
		second.Close(false)
		l.join("alice", "garage").hear(`"type":"offer"`)
	})
}

func TestWhatComesForARoomThatIsBeingLeftIsToldToItsSender(t *testing.T) {
	inLodge(t, broker.Config{}, func(l *lodge) {
		bob := l.join("bob", "garage")
		l.subscribe = func(filters []string, then func(...string) error) error {
			return errors.Join(then(filters...), topics.Errorf(topics.Forbidden, "not that"))
		}
		l.publish = func(_ topics.Address, then func() error) error {
			bob.say(`{"type":"offer","id":1,"to":"alice","session":"k3","sdp":""}`)
			return then()
		}
		alice := l.connect()
		alice.say(`{"type":"join","room":"garage","peer":"alice"}`)
		alice.hear(`"code":403`)
		bob.hear(`"type":"ok","id":1`)
		bob.hear(`"code":480`)
		alice.Close(true)
	})
}

func TestAnErrorThatDoesNotFitIsToldToTheNextConnection(t *testing.T) {
	for name, before := range map[string]func(bob *lodger){
		"it ends the connection":   func(*lodger) {},
		"the connection is ending": func(bob *lodger) { bob.say(`{"type":"presence","room":"garage","presence":{"n":1}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			inLodge(t, broker.Config{}, func(l *lodge) {
				alice, bob, cam := l.join("alice", "garage"), l.join("bob", "garage"), l.join("cam1", "garage")
				l.bridge.Resume = -1
				cam.Lost()
				alice.say(`{"type":"offer","id":1,"to":"cam1","session":"k3","sdp":""}`)
				alice.hear(`"type":"ok","id":1`)
				alice.fill()
				before(bob)
				l.wait(6 * time.Second)
				if alice.ended == nil {
					l.t.Error("the connection goes on without the error")
				}
				alice.Lost()
				l.join("alice", "garage").hear(`"code":480`)
			})
		})
	}
}

func TestAConnectionHasOneNameInTheLog(t *testing.T) {
	s := startSite(t)
	s.caller(t, mqtt3TCP, "cam1", "garage")
	s.caller(t, jsonWS, "alice", "garage").leave()
	line := regexp.MustCompile(`msg="websocket ended" conn=(\S+) peer=alice`)
	eventually(t, "the end of the connection in the log", func() bool { return line.MatchString(s.Log.String()) })
	conn := line.FindStringSubmatch(s.Log.String())[1]
	for _, what := range []string{"level=INFO msg=joined room=garage peer=alice conn=" + conn + " ", "level=DEBUG msg=joined conn=" + conn + " "} {
		if !strings.Contains(s.Log.String(), what) {
			t.Errorf("the log has no %s:\n%s", what, s.Log.String())
		}
	}
}
