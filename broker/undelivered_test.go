package broker

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	paho5 "github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"
)

// What was accepted for a connection and did not arrive goes to the next one of
// the same peer, or its sender is told.

// rawCamera is a camera by hand, which acknowledges nothing by itself.
func rawCamera(t *testing.T, s *server, properties ...byte) net.Conn {
	t.Helper()
	conn := s.dial(t)
	send(t, conn, connect5("cam1", "", properties...))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{1}))
	receive(t, conn)
	receive(t, conn) // hello
	send(t, conn, []byte{0x40, 2, 0, 1})
	return conn
}

func TestWhatACutConnectionDidNotAcknowledgeComesToTheNextOne(t *testing.T) {
	s := serve(t, Config{Grace: long})
	conn := rawCamera(t, s, 0x21, 0, 1) // receive maximum 1
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	for i := range 5 {
		if code := alice.publish("rtc/v1/garage/to/cam1/alice", fmt.Sprintf(`{"type":"msg","data":%d}`, i), 1); code != 0 {
			t.Fatalf("reason %#x", code)
		}
	}
	_ = conn.Close()
	waitFor(t, "the loss of cam1 to be noticed", func() bool { return s.connections() == 1 })
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg","data":5}`, 1)
	back := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	back.expect("rtc/v1/garage/to/cam1/_ hello")
	for i := range 6 {
		back.expect(fmt.Sprintf(`rtc/v1/garage/to/cam1/alice "data":%d}`, i))
	}
	alice.quiet("garage")
}

func TestWhatACutConnectionDidNotAcknowledgeIsToldWhenNobodyComesBack(t *testing.T) {
	s := serve(t, Config{Grace: soon})
	conn := rawCamera(t, s)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	for i := range 3 {
		alice.publish("rtc/v1/garage/to/cam1/alice", fmt.Sprintf(`{"type":"msg","data":%d}`, i), 1)
	}
	_ = conn.Close()
	for range 3 {
		alice.expect(`rtc/v1/garage/to/alice/_ "code":480`)
	}
}

func TestWhatWasTakenBackOnceIsNotTakenBackAgain(t *testing.T) {
	s := serve(t, Config{Grace: long})
	conn := rawCamera(t, s)
	send(t, conn, packet(0x82, []byte{0, 2, 0}, text(inbox("attic", "cam1")), []byte{1})) // to stay connected
	receive(t, conn)
	receive(t, conn) // hello
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg","data":1}`, 1)
	receive(t, conn) // and no PUBACK
	next := rawCamera(t, s)
	receive(t, next)
	send(t, next, []byte{0x40, 2, 0, 2})
	send(t, next, []byte{0xC0, 0})
	receive(t, next) // PINGRESP: the PUBACK was read
	receive(t, conn) // 409
	send(t, conn, packet(0x82, []byte{0, 3, 0}, text(inbox("garage", "cam1")), []byte{1}))
	receive(t, conn)
	last := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	last.expect("rtc/v1/garage/to/cam1/_ hello")
	last.quiet("garage")
}

func TestWhatWaitsIsNotLostWhenTheConnectionEndsBeforeTheAcknowledgementIsRead(t *testing.T) {
	s := serve(t, Config{Grace: long})
	rawCamera(t, s, 0x21, 0, 1) // receive maximum 1
	cam := s.everyone()[0]
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	for i := range 4 {
		if code := alice.publish("rtc/v1/garage/to/cam1/alice", fmt.Sprintf(`{"type":"msg","data":%d}`, i), 1); code != 0 {
			t.Fatalf("reason %#x", code)
		}
	}
	cam.mu.Lock() // gone waits for it, so nothing is taken back yet
	_ = cam.Close()
	cam.inFlight.remove(0) // as acknowledged does
	cam.pump()
	cam.mu.Unlock()
	waitFor(t, "the loss of cam1 to be noticed", func() bool { return s.connections() == 1 })
	back := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	back.expect("rtc/v1/garage/to/cam1/_ hello")
	for i := range 3 {
		back.expect(fmt.Sprintf(`rtc/v1/garage/to/cam1/alice "data":%d}`, i+1))
	}
	alice.quiet("garage")
}

func TestWhatWasTakenBackCountsNoMore(t *testing.T) {
	s := serve(t, Config{Queue: 64 << 10})
	conn := rawCamera(t, s, 0x21, 0, 1) // receive maximum 1
	send(t, conn, packet(0x82, []byte{0, 2, 0}, text(inbox("attic", "cam1")), []byte{1}))
	receive(t, conn)
	receive(t, conn) // hello, and no PUBACK
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), inbox("attic", "alice"))
	say := func(room string) {
		t.Helper()
		for range 2 {
			big := `{"type":"msg","data":"` + strings.Repeat("x", 30000) + `"}`
			if code := alice.publish("rtc/v1/"+room+"/to/cam1/alice", big, 1); code != 0 {
				t.Errorf("in %s: reason %#x", room, code)
			}
		}
	}
	say("garage")
	next := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	next.expect("rtc/v1/garage/to/cam1/_ hello", "rtc/v1/garage/to/cam1/alice xxx", "rtc/v1/garage/to/cam1/alice xxx")
	say("attic") // where it is still the first one
	_ = conn.Close()
	waitFor(t, "the loss of the first connection", func() bool { return s.connections() == 2 })
	waitFor(t, "nothing to be counted any more", func() bool { return s.Queued.Load() == 0 })
}

func TestOfferThatMayHaveArrivedEndsWithTheByeOfItsSession(t *testing.T) {
	s := serve(t, Config{Grace: soon})
	conn := rawCamera(t, s)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k1"}`, 1)
	receive(t, conn) // and no PUBACK
	_ = conn.Close()
	alice.expect("rtc/v1/garage/to/alice/cam1 bye")
	alice.quiet("garage")
}

// dying is a receiver whose connection has ended, unnoticed as yet.
type dying struct{ inProcess }

func (*dying) deliver(*message, reception) error { return errClosed }

func TestMessagesToAConnectionThatIsJustEndingAllWaitInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam, err := b.newSession(peerOf("cam1", "garage"), "ws", &dying{inProcess{inbox: inboxFunc(nil)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := cam.Subscribe(inbox("garage", "cam1")); err != nil {
			t.Fatal(err)
		}
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}
		for i := range 3 {
			if err := alice.s.Publish(to, []byte(fmt.Sprintf(`{"type":"x-%d"}`, i))); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		cam.Close(false)
		back := b.open(t, peerOf("cam1", "garage")).join("garage")
		back.expect("+alice hello x-0 x-1 x-2")
	})
}

func TestErrorWaitsForASenderThatIsItselfAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Grace: 10 * time.Second})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := b.open(t, peerOf("cam1", "garage")).join("garage")
		cam.s.Close(false)
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}
		if err := alice.s.Publish(to, []byte(`{"type":"offer","session":"k1"}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		alice.s.Close(false)
		time.Sleep(6 * time.Second) // cam1 is given up
		back := b.open(t, peerOf("alice", "garage")).join("garage")
		synctest.Wait()
		back.expect("hello offline")
	})
}

func TestByeReachesAPeerWhoseHoldIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Grace: 10 * time.Second, MaxHeld: 1})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := b.open(t, peerOf("cam1", "garage")).join("garage")
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}
		if err := alice.s.Publish(to, []byte(`{"type":"offer","session":"k1"}`)); err != nil {
			t.Fatal(err)
		}
		cam.s.Close(false)
		if err := alice.s.Publish(to, []byte(`{"type":"candidate","session":"k1"}`)); err != nil {
			t.Fatal(err)
		}
		if err := alice.s.Publish(to, []byte(`{"type":"candidate","session":"k1"}`)); topics.AsError(err).Code != topics.Busy {
			t.Errorf("beyond the hold: %v", err)
		}
		alice.s.Close(true)
		back := b.open(t, peerOf("cam1", "garage")).join("garage")
		back.expect("hello candidate bye")
	})
}

func TestSnapshotLargerThanTheQueueIsPaced(t *testing.T) {
	s := serve(t, Config{Queue: 64 << 10})
	big := `{"online":true,"info":"` + strings.Repeat("x", 3000) + `"}`
	const n = 100
	for i := range n {
		p := s.Broker
		id := peerOf(fmt.Sprintf("cam%03d", i), "garage")
		session, err := p.Connect(id, "ws", inboxFunc(func(topics.Delivery) error { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { session.Close(true) })
		if err := session.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: id.Name}, []byte(big)); err != nil {
			t.Fatal(err)
		}
	}
	alice := s.client5(t, "alice").subscribe("rtc/v1/garage/peers/+")
	for i := range n {
		alice.expect(fmt.Sprintf("rtc/v1/garage/peers/cam%03d online", i))
	}
	waitFor(t, "nothing to be counted any more", func() bool { return s.Queued.Load() == 0 })
}

func TestReasonBelow0x80ComesWithoutProblemInformation(t *testing.T) {
	s := serve(t, Config{})
	alice := s.client5(t, "alice", func(c *paho5.Connect) {
		c.Properties = &paho5.ConnectProperties{RequestProblemInfo: false}
	}).subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	if code := alice.publish("rtc/v1/garage/to/nobody/alice", `{"type":"msg"}`, 1); code != 0x10 {
		t.Errorf("reason %#x, want 0x10", code)
	}
}

func TestReasonBelow0x80OfQoS2ComesWithoutWords(t *testing.T) {
	s := serve(t, Config{})
	for what, properties := range map[string][]byte{
		"no problem information": {0x17, 0},
		"packets of 100 bytes":   {0x27, 0, 0, 0, 100},
	} {
		conn := s.dial(t)
		send(t, conn, connect5("alice", "", properties...))
		receive(t, conn)
		send(t, conn, packet(0x82, []byte{0, 1, 0}, text("rtc/v1/garage/all/+"), []byte{0}))
		receive(t, conn)
		send(t, conn, packet(0x32, text("rtc/v1/garage/peers/alice"), []byte{0, 2, 0}, []byte(`{"online":true}`)))
		receive(t, conn)
		send(t, conn, packet(0x34, text("rtc/v1/garage/to/nobody/alice"), []byte{0, 7, 0}, []byte(`{"type":"msg"}`)))
		if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Pubrec || pk.PacketID != 7 || pk.ReasonCode != 0x10 {
			t.Errorf("%s: got type %d, reason %#x, want PUBREC 0x10", what, pk.FixedHeader.Type, pk.ReasonCode)
		}
		send(t, conn, []byte{0x62, 2, 0, 7})
		if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Pubcomp || pk.PacketID != 7 || pk.ReasonCode != 0 {
			t.Errorf("%s: got type %d, reason %#x, want PUBCOMP", what, pk.FixedHeader.Type, pk.ReasonCode)
		}
		_ = conn.Close()
		waitFor(t, "the end of the connection", func() bool { return s.connections() == 0 })
	}
}

func TestMalformedTopicInsideTheRootIsToldInTheInbox(t *testing.T) {
	s := serve(t, Config{})
	three := s.client3(t, "three").subscribe(inbox("garage", "three"))
	three.expect("rtc/v1/garage/to/three/_ hello")
	for _, topic := range []string{"rtc/v1/garage/to/cam 1/three", "rtc/v1/garage/too/cam1/three", "rtc/v1/garage"} {
		three.publishAs(topic, `{"type":"msg"}`, 1, false)
		three.expect(`rtc/v1/garage/to/three/_ "code":400`)
	}
}

func TestRefusedFilterLeavesNoMemberBehind(t *testing.T) {
	s := serve(t, Config{MaxPeers: 1})
	s.client3(t, "cam1").subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	late := s.client5(t, "late")
	for i := range maxFilters {
		late.subscribe(fmt.Sprintf("rtc/v1/attic/peers/p%d", i))
	}
	if code := late.trySubscribe("rtc/v1/cellar/peers/+", 1); code != 0x97 {
		t.Errorf("filter 65: SUBACK %#x", code)
	}
	if _, ok := s.rooms.Load("cellar"); ok {
		t.Error("a room of nobody is kept")
	}
}

func TestSubscriptionAfterTheEndIsRefused(t *testing.T) {
	b := newBroker(t, Config{})
	desk := b.open(t, topics.Identity{Name: "desk", Grants: []topics.Grant{{Room: "*", Role: topics.Observer}}, Subscribe: []string{"#"}})
	desk.s.Close(true)
	for _, f := range []string{"rtc/v1/+/peers/+", "rtc/v1/garage/peers/+", "home/#"} {
		if err := desk.s.Subscribe(f); err == nil {
			t.Errorf("%s is taken", f)
		}
	}
	if len(*b.watchers.Load()) > 0 || len(b.outside.listeners) > 0 {
		t.Error("a listener is kept")
	}
}

func TestAdminsSessionsAreThoseOfWhomItSpeaksAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		admin := b.open(t, topics.Identity{Name: "ada", Grants: []topics.Grant{{Room: "*", Role: topics.Admin}}}).join("garage")
		cam := b.open(t, peerOf("cam1", "garage")).join("garage")
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "bob", Src: "cam1"}
		if err := admin.s.Publish(to, []byte(`{"type":"offer","session":"k1"}`)); err != nil {
			t.Fatal(err)
		}
		bob.types()
		admin.s.Close(true)
		bob.expect("-ada")
		cam.s.Close(true)
		bob.expect("bye -cam1")
	})
}
