package broker

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// inProc is a session without a socket, for tests on fake time.
type inProc struct {
	t    *testing.T
	s    *Session
	name string

	mu sync.Mutex // guards in
	in []topics.Delivery
}

func (b *Broker) open(t *testing.T, id topics.Identity) *inProc {
	t.Helper()
	p := &inProc{t: t, name: id.Name}
	var err error
	if p.s, err = b.Connect(id, "ws", inboxFunc(p.take)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *inProc) take(d topics.Delivery) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = append(p.in, d)
	return nil
}

func (p *inProc) join(room string) *inProc {
	p.t.Helper()
	if err := p.s.Subscribe(p.s.Identity().Filters(topics.DefaultRoot, room)...); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// types lists what came, by type or kind, and forgets it.
func (p *inProc) types() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, d := range p.in {
		switch {
		case d.Kind == topics.Presence && len(d.Payload) == 0:
			all = append(all, "-"+d.Src)
		case d.Kind == topics.Presence:
			all = append(all, "+"+d.Src)
		case d.Type == topics.TypeError:
			var e struct{ Code int }
			_ = json.Unmarshal(d.Payload, &e)
			all = append(all, topics.Code(e.Code).Reason())
		default:
			all = append(all, d.Type)
		}
	}
	p.in = nil
	return strings.Join(all, " ")
}

func (p *inProc) expect(want string) {
	p.t.Helper()
	if got := p.types(); got != want {
		p.t.Errorf("%s got  %q\nwant %q", p.name, got, want)
	}
}

func peerOf(name string, rooms ...string) topics.Identity {
	id := topics.Identity{Name: name}
	for _, r := range rooms {
		id.Grants = append(id.Grants, topics.Grant{Room: r, Role: topics.Peer})
	}
	return id
}

// authenticated lets everyone in as id.
func authenticated(id topics.Identity) func(context.Context, topics.Credentials) (topics.Identity, error) {
	return func(context.Context, topics.Credentials) (topics.Identity, error) { return id, nil }
}

func newBroker(t *testing.T, c Config) *Broker {
	t.Helper()
	if c.Authenticate == nil {
		c.Authenticate = authenticated(topics.Identity{})
	}
	for _, n := range []*int{&c.Rate, &c.Joins} { // budgets have tests of their own
		if *n == 0 {
			*n = -1
		}
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestConnectionEndsWithItsCredentialsUnlessTheyAreRenewed(t *testing.T) {
	threat.Row(t, 9, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		id := peerOf("alice", "garage")
		id.Expires = time.Now().Add(10 * time.Minute)
		alice := b.open(t, id).join("garage")
		bob.expect("hello +alice")
		alice.expect("+bob hello")

		time.Sleep(9 * time.Minute)
		id.Expires = time.Now().Add(10 * time.Minute)
		alice.s.Renew(id)
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		alice.expect("")

		time.Sleep(2 * time.Minute)
		synctest.Wait()
		alice.expect("unauthorized unauthorized") // in its room, and for the door
		bob.expect("-alice")                      // after the grace
		if err := alice.s.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "alice"}, []byte(`{"type":"msg"}`)); err == nil {
			t.Error("an expired session publishes")
		}
	})
}

func TestPeerThatComesBackWithNewCredentialsWithinTheGraceIsNotSeenToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		id := peerOf("alice", "garage")
		id.Expires = time.Now().Add(time.Minute)
		b.open(t, id).join("garage")
		bob.expect("hello +alice")
		time.Sleep(time.Minute + time.Second)
		b.open(t, peerOf("alice", "garage")).join("garage")
		time.Sleep(time.Minute)
		synctest.Wait()
		bob.expect("")
	})
}

func TestRevokedAccountIsGoneAtOnceAndItsHeldMessagesWithIt(t *testing.T) {
	threat.Row(t, 7, 0)
	synctest.Test(t, func(t *testing.T) {
		var revoked atomic.Bool
		b := newBroker(t, Config{Still: func(id topics.Identity) (topics.Identity, error) {
			if id.Name == "alice" && revoked.Load() {
				return id, topics.Errorf(topics.Unauthorized, "revoked")
			}
			return id, nil
		}})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := b.open(t, peerOf("cam1", "garage")).join("garage")
		cam.s.Close(false) // lost: what is sent to it waits
		if err := alice.s.Publish(topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}, []byte(`{"type":"offer","session":"k1"}`)); err != nil {
			t.Fatal(err)
		}
		bob.types()
		revoked.Store(true)
		b.Recheck()
		synctest.Wait()
		bob.expect("-alice")
		back := b.open(t, peerOf("cam1", "garage")).join("garage")
		synctest.Wait()
		back.expect("+bob hello bye")
		if got := back.types(); strings.Contains(got, "offer") {
			t.Errorf("a revoked sender's offer was delivered: %s", got)
		}
	})
}

func TestNarrowerGrantsTakeRoomsAndSubscriptions(t *testing.T) {
	threat.Row(t, 7, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage", "attic"))
		bob.join("garage").join("attic")
		alice := b.open(t, peerOf("alice", "garage", "attic"))
		alice.join("garage").join("attic")
		bob.types()
		alice.types()
		alice.s.Renew(peerOf("alice", "attic"))
		bob.expect("-alice")
		alice.expect("forbidden")
		all := func(room string) topics.Address { return topics.Address{Room: room, Kind: topics.All, Src: "bob"} }
		_ = bob.s.Publish(all("garage"), []byte(`{"type":"msg"}`))
		alice.expect("")
		_ = bob.s.Publish(all("attic"), []byte(`{"type":"msg"}`))
		alice.expect("msg")
	})
}

func TestRevokedObserverAcrossRoomsHearsNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		desk := b.open(t, topics.Identity{Name: "desk", Grants: []topics.Grant{{Room: "*", Role: topics.Observer}}})
		if err := desk.s.Subscribe("rtc/v1/+/peers/+"); err != nil {
			t.Fatal(err)
		}
		b.open(t, peerOf("bob", "garage")).join("garage")
		desk.expect("+bob")
		desk.s.Renew(topics.Identity{Name: "desk"})
		b.open(t, peerOf("alice", "garage")).join("garage")
		desk.expect("")
	})
}

func TestICEServersAreToldAndRenewedBeforeTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{ICEServers: func(id topics.Identity) ([]topics.ICEServer, time.Duration) {
			return []topics.ICEServer{{URLs: []string{"turn:t.example"}, Username: id.Name, Credential: time.Now().Format(time.TimeOnly)}}, 10 * time.Minute
		}})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if hello := string(alice.in[0].Payload); !strings.Contains(hello, `"iceServers":[{"urls":["turn:t.example"],"username":"alice"`) || !strings.Contains(hello, `"ttl":600`) {
			t.Errorf("hello is %s", hello)
		}
		alice.types()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		alice.expect("ice")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		alice.expect("ice ice ice")
		alice.s.Close(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		alice.expect("")
	})
}

func TestExpiredMQTTConnectionIsToldAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		b.Authenticate = func(_ context.Context, c topics.Credentials) (topics.Identity, error) {
			id := peerOf(c.Username, "garage")
			id.Expires = time.Now().Add(3 * time.Second)
			return id, nil
		}
		for _, version := range []byte{4, 5} {
			connect, properties := connect3("c", "cam1"), []byte(nil)
			if version == 5 {
				connect, properties = connect5("c", "cam1"), []byte{0}
			}
			conn := pipe(t, b, connect)
			send(t, conn, packet(0x82, []byte{0, 1}, properties, text(inbox("garage", "cam1")), []byte{0}))
			for _, want := range []string{"", "hello", `"code":401`} {
				if pk := parsed(t, version, receive(t, conn)); !strings.Contains(string(pk.Payload), want) {
					t.Errorf("version %d: got %s, want %s", version, pk.Payload, want)
				}
			}
			if version == 5 {
				if pk := parsed(t, version, receive(t, conn)); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrNotAuthorized.Code {
					t.Errorf("got %+v, want DISCONNECT 0x87", pk)
				}
			}
			closed(t, conn)
		}
	})
}

// A session that is opened while accounts change is among those that are asked, or
// asks by itself.
func TestAccountRevokedWhileItLogsInDoesNotComeIn(t *testing.T) {
	b := newBroker(t, Config{Still: func(id topics.Identity) (topics.Identity, error) {
		return id, topics.Errorf(topics.Unauthorized, "revoked")
	}})
	if _, err := b.Connect(peerOf("alice", "garage"), "ws", inboxFunc(func(topics.Delivery) error { return nil })); topics.AsError(err).Code != topics.Unauthorized {
		t.Errorf("got %v", err)
	}
	if n := len(b.sessions); n != 0 {
		t.Errorf("%d sessions are kept", n)
	}
}

func TestRenewalDuringARecheckIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Session
		id := peerOf("alice", "garage")
		id.Expires = time.Now().Add(time.Minute)
		renewed := id
		renewed.Expires = time.Now().Add(time.Hour)
		first := true
		b := newBroker(t, Config{Still: func(now topics.Identity) (topics.Identity, error) {
			if s != nil && first {
				first = false
				if err := s.Renew(renewed); err != nil { // comes between
					t.Error(err)
				}
			}
			return now, nil
		}})
		alice := b.open(t, id).join("garage")
		s = alice.s
		b.Recheck()
		alice.types()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		alice.expect("")
	})
}
