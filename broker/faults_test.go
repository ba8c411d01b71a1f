package broker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// What is wrong with mochi-mqtt 2.7.9, what stands in front of it, and the test
// that fails without that: each defence was taken out once to see it. When a
// release of mochi makes one needless, it can go. Tests without a folder are in
// this package; "not used" means that the test fails once it is.
//
//	 1  a truncated SUBSCRIBE of version 5 panics, and nothing recovers
//	      guard/packet.go                 TestTruncatedSubscribeEndsItsOwnConnectionOnly
//	      incoming.go converse            TestPanicOfTheEngineEndsItsOwnConnectionOnly
//	 2  a connection that is silent, or stops in its CONNECT, lives for ever, uncounted, and Close waits for it
//	      guard/conn.go New, deadline.go  TestSilentAndHalfConnectionsEndAtTheHandshakeDeadline; guard: TestSilentConnectionIsCutWhenTheHandshakeTimeIsOver
//	      broker.go Close                 TestCloseDoesNotWaitForAConnectionThatSaysNothing
//	      bridge/door count               bridge/door: TestConnectionsThatAreNotAdmittedAreCapped
//	 3  the length that a header claims is allocated, before authentication too
//	      guard/packet.go frame, stream.go TestClaimedLengthAllocatesNothing; guard: TestLittleIsTakenBeforeAdmit, TestClaimedLengthCostsNothing
//	 4  the topic of a last will is checked by nobody
//	      engine.go willOf                TestForeignLastWillIsRefusedAtConnect
//	      engine.go admit (no will left)  TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	 5  the client id of another takes its session and messages
//	      its clients: not used           TestSomebodyElsesClientIDTakesNothingFromThem
//	 6  a receiver that stalls stops everyone who publishes to it
//	      guard/queue.go                  TestStalledReceiverStopsNobodyAndIsCutOff; guard: TestStalledReceiverNeverBlocksWriteAndIsCut
//	 7  a topic of 65,000 levels takes 20 s under a global lock
//	      guard/topic.go size             TestDeepTopicsAreRefusedBeforeTheEngine
//	 8  one failed accept ends its accept loop
//	      bridge/door Serve               bridge/door: TestAcceptErrorsAreTriedAgainWithPauses
//	 9  what OnPublish refuses with a reason code is delivered all the same; with ErrRejectPacket it is not acknowledged
//	      QoS 2: engine.go OnPublish; others: not used  TestTopicsOutsideTheRoomsAreOrdinaryMQTTWhereGranted, TestDeniedPublishIsAcknowledgedAndTheConnectionLives
//	10  a publish that the ACL denies disconnects a 3.1.1 client
//	      engine.go OnACLCheck            TestDeniedPublishIsAcknowledgedAndTheConnectionLives
//	11  of several hooks each only widens what another allows
//	      engine.go newEngine (one hook)  TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	12  the ACL for reading gets raw filters, $share in any letter case among them
//	      subscription.go granted         TestSubscriptionWiderThanTheGrantIsRefusedAndCarriesNothing
//	      engine.go OnACLCheck            TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	      guard/topic.go filter           guard: TestPacketsAreHeldToTheStandard
//	13  capabilities that are turned off are served and those that are announced are not looked at
//	      none is turned off              TestWhatTheConnackOffersIsThere
//	14  the ACL is asked before a topic alias is resolved; aliases outlive their connection
//	      guard/properties.go, and behind it engine.go newEngine; both out: TestTopicAliasIsRefused; guard: TestPacketsAreHeldToTheStandard
//	      its way to send them: not used  TestTopicAliasesAreSentToAClientThatTakesThem, and no others
//	15  both directions share one space of packet identifiers
//	      outgoing.go number              TestPacketIdentifiersOfBothDirectionsAreIndependent
//	      guard/stream.go (takes acks)    TestReceiveMaximumIsObeyedAndNothingIsLost
//	16  a session that is resumed is out of order, and kept for ever
//	      its clients: not used           TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	      engine.go OnPacketEncode        TestSessionsAreClean
//	17  of many quick takeovers some leave the newest connection deaf
//	      its clients: not used           TestThreeHundredTakeoversLeaveExactlyOneAlive
//	18  a keep-alive of 43,691 s overflows, 0 is never
//	      engine.go admit, incoming.go stayAlive  TestKeepAliveIsClampedAndToldToVersion5
//	      broker.go boundKeepAlive        TestKeepAliveHasTheBoundsThatTheOperatorSets
//	19  a long run of retained messages is dropped in silence
//	      backlog.go fits                 TestSnapshotLargerThanTheQueueIsPaced
//	20  what a full queue drops, nobody is told of
//	      outgoing.go deliver             TestStalledReceiverStopsNobodyAndIsCutOff, TestWhatWaitsForAcknowledgementsIsBoundedAndTold
//	21  Close fires every last will
//	      broker.go Drain, Close          TestNoLastWillIsPublishedWhenTheServerStops
//	22  its log has whole packets, passwords too
//	      engine.go newEngine (Logger)    TestSecretsOfPacketsAreNotLogged
//	23  Publish and the inline client pass by the ACL, and block the publisher
//	      not used                        TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	24  retained messages are read and written without a lock
//	      not used                        TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	25  persistence hooks lose, reorder and keep what was denied
//	      not used: one hook              TestEngineKeepsNoSubscriptionMessageSessionOrWill
//	26  PUBACK never says 0x10, CONNACK never the maximum packet size
//	      incoming.go refuse              TestReasonBelow0x80ComesWithoutProblemInformation
//	      engine.go Write                 TestReasonBelow0x80OfQoS2ComesWithoutWords
//	      engine.go OnPacketEncode        TestWhatTheConnackOffersIsThere, TestRefusedPublishIsToldInEveryVersionAndReachesNobody

// canary is a pair of peers whose messages must go on arriving.
type canary struct{ a, b *mqttPeer }

func newCanary(t *testing.T, s *server) canary {
	t.Helper()
	c := canary{s.client3(t, "tweety"), s.client5(t, "sylvester")}
	c.a.subscribe(inbox("cage", "tweety")).expect("rtc/v1/cage/to/tweety/_ hello")
	c.b.subscribe(inbox("cage", "sylvester")).expect("rtc/v1/cage/to/sylvester/_ hello")
	return c
}

func (c canary) sings() {
	c.a.t.Helper()
	c.a.publish("rtc/v1/cage/to/sylvester/tweety", `{"type":"msg","data":"tweet"}`, 1)
	c.b.expect("rtc/v1/cage/to/sylvester/tweety tweet")
	c.b.publish("rtc/v1/cage/to/tweety/sylvester", `{"type":"msg","data":"meow"}`, 1)
	c.a.expect("rtc/v1/cage/to/tweety/sylvester meow")
}

func TestTruncatedSubscribeEndsItsOwnConnectionOnly(t *testing.T) {
	s := serve(t, Config{})
	birds := newCanary(t, s)
	conn := s.dial(t)
	send(t, conn, connect5("mallory", ""))
	receive(t, conn)
	send(t, conn, []byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 0x61})
	if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrMalformedPacket.Code {
		t.Errorf("got %+v, want DISCONNECT 0x81", pk)
	}
	closed(t, conn)
	birds.sings()
}

// The guard lets nothing through that makes mochi panic; if something ever does,
// it ends that connection only.
func TestPanicOfTheEngineEndsItsOwnConnectionOnly(t *testing.T) {
	threat.Row(t, 13, threat.TCP3)
	s := serve(t, Config{})
	birds := newCanary(t, s)
	if err := s.engine.AddHook(&panicking{}, nil); err != nil {
		t.Fatal(err)
	}
	conn := s.dial(t)
	send(t, conn, connect3("mallory", ""))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1}, text("panic"), []byte{0}))
	closed(t, conn)
	birds.sings()
	waitFor(t, "the dead client to be forgotten", func() bool { return s.connections() == 2 })
}

type panicking struct{ mqtt.HookBase }

func (*panicking) ID() string               { return "panicking" }
func (*panicking) Provides(event byte) bool { return event == mqtt.OnSubscribe }
func (*panicking) OnSubscribe(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.Filters[0].Filter == "panic" {
		panic("as asked")
	}
	return pk
}

func TestSilentAndHalfConnectionsEndAtTheHandshakeDeadline(t *testing.T) {
	s := serve(t, Config{Handshake: 200 * time.Millisecond})
	for _, start := range [][]byte{nil, {0x10}, {0x10, 0x80, 0x80}, connect3("x", "")[:9]} {
		conn := s.dial(t)
		if start != nil {
			send(t, conn, start)
		}
		closed(t, conn)
	}
	waitFor(t, "nothing to be left", func() bool { return s.connections() == 0 })
}

func TestCloseDoesNotWaitForAConnectionThatSaysNothing(t *testing.T) {
	s := serve(t, Config{Handshake: time.Hour})
	s.dial(t)
	conn := s.dial(t)
	send(t, conn, []byte{0x10})
	waitFor(t, "both to be accepted", func() bool { return s.connections() == 2 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil { // mochi's panics the second time
		t.Error(err)
	}
}

func TestClaimedLengthAllocatesNothing(t *testing.T) {
	threat.Row(t, 14, threat.TCP3)
	s := serve(t, Config{})
	conn := s.dial(t)
	send(t, conn, []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	closed(t, conn)
}

func TestForeignLastWillIsRefusedAtConnect(t *testing.T) {
	threat.Row(t, 5, threat.TCP5)
	s := serve(t, Config{Grace: soon})
	watch := s.client5(t, "observer").subscribe("rtc/v1/#")
	birds := newCanary(t, s)
	for _, c := range []struct {
		topic, payload string
		retain         bool
		reason         byte
	}{
		{"rtc/v1/cage/peers/tweety", `{"online":false}`, true, 0x87},
		{"rtc/v1/cage/to/tweety/sylvester", `{"type":"msg"}`, false, 0x87},
		{"rtc/v1/cage/to/tweety/_", `{"type":"msg"}`, false, 0x87},
		{"$SYS/broker/version", `1`, true, 0x87},
		{"home/light", `on`, true, 0x87},
		{"rtc/v1/cage/to/tweety/mallory", `not json`, false, 0x85},
		{"rtc/v1/cage/to/tweety/mallory", `{"type":"msg"}`, true, 0x85},
		{"rtc/v1/cage/to/tweety/mallory", `{"type":"msg","x":"` + strings.Repeat("x", 70000) + `"}`, false, 0},
		{"rtc/v1/cage/to/+/mallory", `{"type":"msg"}`, false, 0},
		{"rtc/v1/cage/#", `{"type":"msg"}`, false, 0},
	} {
		ctx := t.Context()
		p := paho5.NewClient(paho5.ClientConfig{Conn: s.dial(t)})
		ack, err := p.Connect(ctx, &paho5.Connect{ClientID: "mallory", KeepAlive: 30, CleanStart: true,
			WillMessage: &paho5.WillMessage{Topic: c.topic, Payload: []byte(c.payload), Retain: c.retain, QoS: 1}})
		if err == nil {
			t.Errorf("%s: connected", c.topic)
		} else if c.reason != 0 && (ack == nil || ack.ReasonCode != c.reason) {
			t.Errorf("%s: CONNACK %+v, want reason %#x", c.topic, ack, c.reason)
		}
	}
	birds.sings()
	for range 2 {
		if g := watch.next(); !strings.Contains(g.topic, "/peers/") {
			t.Errorf("got %v", g)
		}
	}
}

func TestSomebodyElsesClientIDTakesNothingFromThem(t *testing.T) {
	threat.Row(t, 4, threat.TCP5)
	s := serve(t, Config{Authenticate: accounts})
	cam := s.client5(t, "same-id", as("cam1"))
	cam.name = "cam1"
	cam.subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	alice := s.client5(t, "same-id", as("alice"))
	alice.name = "alice"
	alice.subscribe(inbox("garage", "alice")).expect("rtc/v1/garage/to/alice/_ hello")
	inline := s.client5(t, "inline", as("otto"))
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 1)
	cam.expect("rtc/v1/garage/to/cam1/alice msg")
	cam.quiet("garage")
	inline.leave()
	alice.quiet("garage")
}

func TestStalledReceiverStopsNobodyAndIsCutOff(t *testing.T) {
	threat.Row(t, 19, threat.TCP5)
	s := serve(t, Config{Queue: 64 << 10, Write: 4 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	stalled := s.dial(t)
	send(t, stalled, connect5("stalled", ""))
	receive(t, stalled)
	send(t, stalled, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "stalled")), []byte{1}))
	receive(t, stalled)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	big := `{"type":"msg","data":"` + strings.Repeat("x", 30000) + `"}`
	var worst time.Duration
	busy := false
	for end := time.Now().Add(patience); s.connections() == 2 && time.Now().Before(end); {
		start := time.Now()
		reason := alice.publish("rtc/v1/garage/to/stalled/alice", big, 1)
		worst = max(worst, time.Since(start))
		if reason == 0x97 {
			busy = true
			alice.expect(`rtc/v1/garage/to/alice/_ "code":486`)
		}
	}
	if s.connections() != 1 {
		t.Error("the stalled receiver is still connected")
	}
	if !busy {
		t.Error("no publish was answered with busy")
	}
	if worst > 3*time.Second { // a publisher that is held up is so until the cut
		t.Errorf("an acknowledgement took %v", worst)
	}
	t.Logf("worst acknowledgement %v", worst)
}

func TestDeepTopicsAreRefusedBeforeTheEngine(t *testing.T) {
	s := serve(t, Config{})
	conn := s.dial(t)
	send(t, conn, connect5("mallory", ""))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(strings.Repeat("a/", 30000)), []byte{0}))
	if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrTopicFilterInvalid.Code {
		t.Errorf("got %+v, want DISCONNECT 0x8F", pk)
	}
}

// mochi disconnects a 3.1.1 client whose publish its ACL denies, and delivers
// one that a hook refuses with a reason code.
func TestDeniedPublishIsAcknowledgedAndTheConnectionLives(t *testing.T) {
	s := serve(t, Config{})
	birds := newCanary(t, s)
	for qos := byte(0); qos <= 2; qos++ {
		birds.a.publish("rtc/v1/cage/to/sylvester/granny", `{"type":"msg"}`, qos)
		birds.a.expect(`rtc/v1/cage/to/tweety/_ "code":403`)
	}
	birds.sings()
}

func TestTopicAliasIsRefused(t *testing.T) {
	s := serve(t, Config{})
	conn := s.dial(t)
	send(t, conn, connect5("mallory", ""))
	if pk := parsed(t, 5, receive(t, conn)); pk.Properties.TopicAliasMaximum != 0 {
		t.Errorf("topic alias maximum %d is announced", pk.Properties.TopicAliasMaximum)
	}
	send(t, conn, packet(0x30, text("rtc/v1/garage/all/mallory"), []byte{3, 0x23, 0, 1}, []byte(`{"type":"msg"}`)))
	if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrTopicAliasInvalid.Code {
		t.Errorf("got %+v, want DISCONNECT 0x94", pk)
	}
}

// What mochi may have, it may lose, mix up, or read while it writes: it has
// nothing. Faults 11, 12, 16, 17, 19, 21 and 23 to 25 would leave something here.
func TestEngineKeepsNoSubscriptionMessageSessionOrWill(t *testing.T) {
	s := serve(t, Config{Grace: soon, Authenticate: hub})
	engine := s.engine
	empty := func() bool {
		info := engine.Info.Clone()
		return engine.Clients.Len() == 0 && engine.Topics.Retained.Len() == 0 && info.Retained == 0 && info.Subscriptions == 0 && info.Inflight == 0
	}
	for _, connect := range [][]byte{ // a session to be kept, and a will to be retained
		packet(0x10, text("MQTT"), []byte{4, 0xA4, 0, 60}, text("c"), text("home/cam1/status"), text("offline"), text("cam1")),
		packet(0x10, text("MQTT"), []byte{5, 0xA4, 0, 60, 5, 0x11, 0, 0, 1, 0}, text("c"), []byte{5, 0x18, 0, 0, 1, 0}, text("home/cam1/status"), text("offline"), text("cam1")),
	} {
		if !empty() {
			t.Fatal("there is something at the start")
		}
		var none []byte
		if connect[8] == 5 {
			none = []byte{0}
		}
		conn := s.dial(t)
		send(t, conn, connect)
		receive(t, conn)
		send(t, conn, packet(0x82, []byte{0, 1}, none, text(inbox("garage", "cam1")), []byte{2}, text("home/cam1/set"), []byte{2}))
		if got := receive(t, conn); got[len(got)-1] != 2 {
			t.Errorf("SUBACK % x", got)
		}
		receive(t, conn) // hello, which is not acknowledged
		send(t, conn, packet(0x33, text("home/cam1/motion"), []byte{0, 2}, none, []byte("on")))
		receive(t, conn)
		send(t, conn, packet(0x33, text("rtc/v1/garage/peers/cam1"), []byte{0, 3}, none, []byte(`{"online":true}`)))
		receive(t, conn)
		if n := engine.Clients.Len(); n > 0 {
			t.Errorf("%d clients", n)
		}
		for _, c := range s.everyone() {
			cl := c.mochi.Load()
			if cl.Properties.Will.Flag > 0 || cl.State.Subscriptions.Len() > 0 || cl.State.Inflight.Len() > 0 {
				t.Errorf("will %+v, %d subscriptions, %d messages", cl.Properties.Will, cl.State.Subscriptions.Len(), cl.State.Inflight.Len())
			}
		}
		for _, topic := range []string{"rtc/v1/garage/to/cam1/_", "home/cam1/set"} {
			if n := len(engine.Topics.Subscribers(topic).Subscriptions); n > 0 {
				t.Errorf("%d subscriptions to %s", n, topic)
			}
		}
		_ = conn.Close()
		waitFor(t, "everything to be forgotten", func() bool { return empty() && s.connections() == 0 })
	}
}

func TestNoLastWillIsPublishedWhenTheServerStops(t *testing.T) { // fault 21
	for what, stop := range map[string]func(*server){
		"Close": func(s *server) { _ = s.Close() },
		"Drain": func(s *server) { s.Drain(t.Context()) },
	} {
		s := serve(t, Config{Grace: -1, Authenticate: hub})
		var heard syncBuffer
		id := peerOf("desk", "garage")
		id.Subscribe = []string{"home/#"}
		desk, err := s.Connect(id, "ws", inboxFunc(func(d topics.Delivery) error {
			_, _ = heard.Write(d.Payload)
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := desk.Subscribe("rtc/v1/garage/all/+", "home/#"); err != nil {
			t.Fatal(err)
		}
		for name, topic := range map[string]string{"cam1": "rtc/v1/garage/all/cam1", "cam2": "home/cam2/status"} {
			s.client3(t, name, user3(name), func(o *paho3.ClientOptions) {
				o.SetWill(topic, `{"type":"msg","data":"i fell"}`, 1, false)
			}).subscribe(inbox("garage", name))
		}
		stop(s)
		desk.Close(true)
		if heard.String() != "" {
			t.Errorf("%s: heard %s", what, heard.String())
		}
	}
}

// mochi offers subscription identifiers, shared and wildcard filters, and turns
// nothing off when told not to (fault 13): whatever it offers is there.
func TestWhatTheConnackOffersIsThere(t *testing.T) {
	s := serve(t, Config{Authenticate: hub})
	conn := s.dial(t)
	send(t, conn, connect5("h", "hub"))
	pk := parsed(t, 5, receive(t, conn))
	if pk.Properties.SharedSubAvailableFlag || pk.Properties.WildcardSubAvailableFlag || pk.Properties.SubIDAvailableFlag || pk.Properties.MaximumQosFlag || pk.Properties.RetainAvailableFlag {
		t.Errorf("something is not offered: %+v", pk.Properties)
	}
	if want := uint32(s.limits.Packet); pk.Properties.MaximumPacketSize != want { // fault 26
		t.Errorf("maximum packet size %d, want %d", pk.Properties.MaximumPacketSize, want)
	}
	for i, f := range []string{"home/+/motion", "$share/g/home/#", "home/cam1/motion"} {
		send(t, conn, packet(0x82, []byte{0, 1, 2, 0x0B, byte(7 + i)}, text(f), []byte{0x08 * byte(i%2^1)})) // all but the shared one retain as published
		if got := parsed(t, 5, receive(t, conn)); got.ReasonCodes[0] != 0 {
			t.Errorf("%s: SUBACK %#x", f, got.ReasonCodes[0])
		}
	}
	send(t, conn, packet(0x31, text("home/cam1/motion"), []byte{0}, []byte("on")))
	var ids []int
	for range 2 { // one for the shared filter, one for the others together
		m := parsed(t, 5, receive(t, conn))
		if shared := len(m.Properties.SubscriptionIdentifier) == 1; string(m.Payload) != "on" || m.FixedHeader.Retain == shared {
			t.Errorf("got %q, retained %v", m.Payload, m.FixedHeader.Retain)
		}
		ids = append(ids, m.Properties.SubscriptionIdentifier...)
	}
	if slices.Sort(ids); !slices.Equal(ids, []int{7, 8, 9}) {
		t.Errorf("subscription identifiers %v", ids)
	}
}

func TestKeepAliveIsClampedAndToldToVersion5(t *testing.T) {
	s := serve(t, Config{})
	for asked, want := range map[uint16]uint16{0: 60, 1: 10, 10: 10, 30: 30, 600: 600, 601: 600, 43691: 600, 65535: 600} {
		conn := s.dial(t)
		p := connect5("x", "")
		p[10], p[11] = byte(asked>>8), byte(asked)
		send(t, conn, p)
		pk := parsed(t, 5, receive(t, conn))
		if told := pk.Properties.ServerKeepAliveFlag; told != (asked != want) || told && pk.Properties.ServerKeepAlive != want {
			t.Errorf("keep-alive %d: server keep-alive %d (%v), want %d", asked, pk.Properties.ServerKeepAlive, told, want)
		}
		if pk.Properties.MaximumPacketSize == 0 {
			t.Error("the maximum packet size is not announced")
		}
		_ = conn.Close()
	}
}

func TestKeepAliveHasTheBoundsThatTheOperatorSets(t *testing.T) {
	for _, test := range []struct {
		least, most time.Duration
		told        map[uint16]uint16
	}{
		{-1, time.Minute, map[uint16]uint16{0: 60, 1: 1, 5: 5, 120: 60}},
		{2 * time.Second, 30 * time.Second, map[uint16]uint16{0: 30, 1: 2, 30: 30, 31: 30}},
		{90 * time.Second, -1, map[uint16]uint16{0: 90, 60: 90, 43691: 43691, 65535: 65535}},
	} {
		s := serve(t, Config{MinKeepAlive: test.least, MaxKeepAlive: test.most})
		for asked, want := range test.told {
			conn := s.dial(t)
			p := connect5("x", "")
			p[10], p[11] = byte(asked>>8), byte(asked)
			send(t, conn, p)
			pk := parsed(t, 5, receive(t, conn))
			if told := pk.Properties.ServerKeepAliveFlag; told != (asked != want) || told && pk.Properties.ServerKeepAlive != want {
				t.Errorf("from %v to %v, asked for %d: server keep-alive %d (%v), want %d", test.least, test.most, asked, pk.Properties.ServerKeepAlive, told, want)
			}
			_ = conn.Close()
		}
	}
}

func TestKeepAliveThatNoClientCouldHaveIsRefused(t *testing.T) {
	for _, c := range []Config{
		{MinKeepAlive: 1500 * time.Millisecond},
		{MaxKeepAlive: time.Millisecond},
		{MinKeepAlive: 11 * time.Minute},
		{MaxKeepAlive: 5 * time.Second},
		{MaxKeepAlive: 65536 * time.Second},
	} {
		c.Authenticate = func(context.Context, topics.Credentials) (topics.Identity, error) { return topics.Identity{}, nil }
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "keep-alive") {
			t.Errorf("from %v to %v: %v", c.MinKeepAlive, c.MaxKeepAlive, err)
		}
	}
}

func TestSessionsAreClean(t *testing.T) {
	s := serve(t, Config{})
	for range 2 {
		conn := s.dial(t)
		p := connect5("x", "", 0x11, 0, 0, 0, 100) // session expiry 100 s
		p[9] = 0                                   // clean start off
		send(t, conn, p)
		pk := parsed(t, 5, receive(t, conn))
		if pk.SessionPresent || !pk.Properties.SessionExpiryIntervalFlag || pk.Properties.SessionExpiryInterval != 0 {
			t.Errorf("session present %v, expiry %d (%v)", pk.SessionPresent, pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag)
		}
		_ = conn.Close()
		conn = s.dial(t)
		p = connect3("x", "")
		p[9] = 0
		send(t, conn, p)
		if got := receive(t, conn); got[2] != 0 || got[3] != 0 {
			t.Errorf("CONNACK % x", got)
		}
		_ = conn.Close()
	}
}

func TestClientWithoutAnIDNeedsACleanSessionIn311(t *testing.T) {
	s := serve(t, Config{})
	conn := s.dial(t)
	p := connect3("", "")
	p[9] = 0
	send(t, conn, p)
	if got := receive(t, conn); got[3] != 2 {
		t.Errorf("CONNACK % x, want code 2", got)
	}
}

func TestSecretsOfPacketsAreNotLogged(t *testing.T) { // fault 22
	threat.Row(t, 24, 0)
	withPassword := packet(0x10, text("MQTT"), []byte{4, 0xC2, 0, 60}, text("x"), text("mallory"), text("hunter2"))
	var tooMany []byte // without a PUBREL, which mochi logs whole
	for id := range 1025 {
		tooMany = append(tooMany, packet(0x34, text("rtc/v1/garage/all/mallory"), []byte{byte((id + 1) >> 8), byte(id + 1)}, []byte("hunter2"))...)
	}
	for what, then := range map[string][]byte{"a second CONNECT": withPassword, "too many messages of QoS 2": tooMany} {
		var log syncBuffer
		s := serve(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		conn := s.dial(t)
		send(t, conn, withPassword)
		receive(t, conn)
		send(t, conn, then)
		closed(t, conn)
		waitFor(t, "the end", func() bool { return strings.Contains(log.String(), "disconnected") })
		for _, secret := range []string{"hunter2", strings.Trim(fmt.Sprint([]byte("hunter2")), "[]")} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%s: the log has it:\n%s", what, log.String())
			}
		}
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// mochi has one space of packet identifiers for both directions: a client's
// publish deletes the broker's unacknowledged one of the same id.
func TestPacketIdentifiersOfBothDirectionsAreIndependent(t *testing.T) {
	s := serve(t, Config{})
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	conn := s.dial(t)
	send(t, conn, connect5("cam1", ""))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{2}))
	if got := receive(t, conn); got[5] != 2 {
		t.Fatalf("SUBACK % x", got)
	}
	hello := parsed(t, 5, receive(t, conn)) // unacknowledged, with id 1
	for i := range 3 {
		alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 2)
		m := parsed(t, 5, receive(t, conn))
		if want := hello.PacketID + 1 + uint16(i); m.PacketID != want || m.FixedHeader.Qos != 2 {
			t.Fatalf("message with id %d at QoS %d, want %d at 2", m.PacketID, m.FixedHeader.Qos, want)
		}
		id := byte(m.PacketID)
		// A publish, and a subscription, of the same id in between.
		send(t, conn, packet(0x32, text("rtc/v1/garage/to/alice/cam1"), []byte{0, id, 0}, []byte(`{"type":"msg"}`)))
		if got := receive(t, conn); got[0] != 0x40 || got[3] != id {
			t.Fatalf("PUBACK % x", got)
		}
		alice.expect("rtc/v1/garage/to/alice/cam1 msg")
		send(t, conn, packet(0x82, []byte{0, id, 0}, text("rtc/v1/garage/all/+"), []byte{1}))
		if got := receive(t, conn); got[0] != 0x90 || got[5] != 1 {
			t.Fatalf("SUBACK % x", got)
		}
		send(t, conn, []byte{0x50, 2, 0, id})                                   // PUBREC
		if got := receive(t, conn); !bytes.Equal(got, []byte{0x62, 2, 0, id}) { // without a reason: it is known
			t.Fatalf("PUBREL % x", got)
		}
		send(t, conn, []byte{0x70, 2, 0, id}) // PUBCOMP
	}
}

func TestWhatWaitsForAcknowledgementsIsBoundedAndTold(t *testing.T) { // fault 20
	s := serve(t, Config{Queue: 64 << 10})
	rawCamera(t, s, 0x21, 0, 1) // receive maximum 1, and no PUBACK ever
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	big := `{"type":"msg","data":"` + strings.Repeat("x", 30000) + `"}`
	for i, want := range []byte{0, 0, 0, 0x97} { // one is on its way, two wait
		if code := alice.publish("rtc/v1/garage/to/cam1/alice", big, 1); code != want {
			t.Errorf("message %d: reason %#x, want %#x", i, code, want)
		}
	}
	alice.expect(`rtc/v1/garage/to/alice/_ "code":486`)
}

func TestAMessageThatNeverFitsTheQueueIsToldAndStopsNothing(t *testing.T) {
	const queue = 2000
	s := serve(t, Config{Queue: queue})
	conn := rawCamera(t, s, 0x21, 0, 1) // receive maximum 1
	s.acknowledged(t)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	const topic = "rtc/v1/garage/to/cam1/alice"
	long := func(packet int) string {
		around := len(topic) + len(`{"type":"msg","data":""}`) + 8 // first byte, two of length, two of the topic's, two of the identifier, no properties
		return `{"type":"msg","data":"` + strings.Repeat("x", packet-around) + `"}`
	}
	for i, c := range []struct {
		payload string
		reason  byte
	}{{`{"type":"msg"}`, 0}, {long(queue + 1), 0x95}, {long(queue), 0}} {
		if reason := alice.publish(topic, c.payload, 1); reason != c.reason {
			t.Errorf("message %d: reason %#x, want %#x", i, reason, c.reason)
		}
	}
	pk := parsed(t, 5, receive(t, conn))
	send(t, conn, []byte{0x40, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
	if p := receive(t, conn); len(p) != queue {
		t.Errorf("got a packet of %d bytes, want %d", len(p), queue)
	}
}

func TestPubrecIsAnsweredUnlessItRefuses(t *testing.T) {
	s := serve(t, Config{})
	conn := rawCamera(t, s)
	send(t, conn, []byte{0x50, 3, 0, 9, 0x80}) // refuses a message that never was [MQTT-4.3.3-4]
	send(t, conn, []byte{0x50, 3, 0, 9, 0x00})
	if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Pubrel || pk.ReasonCode != packets.ErrPacketIdentifierNotFound.Code {
		t.Errorf("got %+v, want PUBREL 0x92", pk)
	}
	send(t, conn, []byte{0xC0, 0})
	if got := receive(t, conn); got[0] != 0xD0 {
		t.Errorf("got % x, want PINGRESP", got)
	}
}

func TestReceiveMaximumIsObeyedAndNothingIsLost(t *testing.T) {
	s := serve(t, Config{})
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	conn := s.dial(t)
	send(t, conn, connect5("cam1", "", 0x21, 0, 2)) // receive maximum 2
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{1}))
	receive(t, conn)
	for i := range 5 {
		alice.publish("rtc/v1/garage/to/cam1/alice", fmt.Sprintf(`{"type":"msg","data":%d}`, i), 1)
	}
	var ids []uint16
	next := func() packets.Packet {
		pk := parsed(t, 5, receive(t, conn))
		ids = append(ids, pk.PacketID)
		return pk
	}
	next() // hello
	for i := range 5 {
		if pk := next(); string(pk.Payload) != fmt.Sprintf(`{"type":"msg","data":%d}`, i) {
			t.Fatalf("message %d is %s", i, pk.Payload)
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			t.Fatal("more than two unacknowledged messages")
		}
		send(t, conn, []byte{0x40, 2, 0, byte(ids[0])})
		ids = ids[1:]
	}
}

func TestMalformedClientIDIsRefused(t *testing.T) {
	s := serve(t, Config{})
	for _, id := range []string{"_", "a/b", "a+b", "#", "über", "a b", strings.Repeat("a", 65)} {
		conn := s.dial(t)
		send(t, conn, connect5(id, ""))
		if pk := parsed(t, 5, receive(t, conn)); pk.ReasonCode != packets.ErrClientIdentifierNotValid.Code || pk.Properties.ReasonString == "" {
			t.Errorf("%q: CONNACK %+v, want reason 0x85 with words", id, pk)
		}
	}
}

func TestDrainSaysShutdownAndChangesNoPresence(t *testing.T) {
	s := serve(t, Config{Grace: soon})
	conn := s.dial(t)
	send(t, conn, connect5("cam1", ""))
	receive(t, conn)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	s.Drain(t.Context())
	if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrServerShuttingDown.Code {
		t.Errorf("got %+v, want DISCONNECT 0x8B", pk)
	}
	alice.waitEnded()
	select {
	case g := <-alice.received:
		t.Errorf("got %v during the drain", g)
	default:
	}
	if _, err := s.Connect(alice.identity(), "ws", nil); err == nil {
		t.Error("a session was opened during the drain")
	}
}

func TestFaultsNameTestsThatExist(t *testing.T) {
	var tests strings.Builder
	for _, dir := range []string{".", "guard", "../bridge/door"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(text)
		}
	}
	faults, err := os.ReadFile("faults_test.go")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(faults), "// canary is")
	for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(table, -1) {
		if !strings.Contains(tests.String(), "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
	for n := 1; n <= 26; n++ {
		if !strings.Contains(table, fmt.Sprintf("\n//\t%2d  ", n)) {
			t.Errorf("fault %d is not in the table", n)
		}
	}
}
