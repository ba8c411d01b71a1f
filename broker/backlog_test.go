package broker

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// crowd has so many peers be in the garage, by another door.
func (s *server) crowd(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		id := peerOf(fmt.Sprintf("cam%03d", i), "garage")
		session, err := s.Connect(id, "ws", inboxFunc(func(topics.Delivery) error { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { session.Close(true) })
		if err := session.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: id.Name}, []byte(topics.PresenceOnline)); err != nil {
			t.Fatal(err)
		}
	}
}

// backlog is what waits for the only client.
func (s *server) backlog(t *testing.T) (snapshots int) {
	t.Helper()
	all := s.everyone()
	if len(all) != 1 {
		t.Fatalf("there are %d clients", len(all))
	}
	all[0].mu.Lock()
	defer all[0].mu.Unlock()
	return all[0].waiting.snapshots
}

// windowed is a client by hand that may have one message unacknowledged.
func (s *server) windowed(t *testing.T, name string) net.Conn {
	t.Helper()
	conn := s.dial(t)
	send(t, conn, connect5(name, "", 0x21, 0, 1))
	receive(t, conn)
	return conn
}

func TestOneSnapshotOfAFilterWaitsHoweverOftenItIsAskedFor(t *testing.T) {
	threat.Row(t, 17, threat.TCP5)
	s := serve(t, Config{})
	const n = 50
	s.crowd(t, n)
	conn := s.windowed(t, "eve")
	peers := append(text("rtc/v1/garage/peers/+"), 1)
	var first []byte
	for i := range 30 {
		send(t, conn, packet(0x82, []byte{0, 1, 0}, peers, peers, peers))
		if i > 0 {
			receive(t, conn)
			continue
		}
		receive(t, conn) // SUBACK
		first = receive(t, conn)
	}
	if waits := s.backlog(t); waits != n {
		t.Errorf("%d messages wait, want one for each of the %d peers", waits, n)
	}
	if counted := s.Queued.Load(); counted < n*snapshotSize {
		t.Errorf("%d bytes are counted", counted)
	}
	for i := range n { // all of it comes
		pk := parsed(t, 5, first)
		send(t, conn, []byte{0x40, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
		first = receive(t, conn)
		if want := fmt.Sprintf("rtc/v1/garage/peers/cam%03d", i); parsed(t, 5, first).TopicName != want {
			t.Fatalf("got %s, want %s", parsed(t, 5, first).TopicName, want)
		}
	}
	waitFor(t, "nothing to be counted any more", func() bool { return s.Queued.Load() == 0 && s.backlog(t) == 0 })
}

func TestASnapshotGoesWithItsSubscription(t *testing.T) {
	s := serve(t, Config{})
	s.crowd(t, 20)
	conn := s.windowed(t, "eve")
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text("rtc/v1/garage/peers/+"), []byte{1}))
	receive(t, conn)
	receive(t, conn)
	send(t, conn, packet(0xA2, []byte{0, 2, 0}, text("rtc/v1/garage/peers/+")))
	receive(t, conn)
	if waits := s.backlog(t); waits != 0 {
		t.Errorf("%d messages wait", waits)
	}
}

func TestWhatWaitsBehindASnapshotComesWhenItsSubscriptionIsGone(t *testing.T) {
	s := serve(t, Config{})
	s.crowd(t, 20)
	conn := s.windowed(t, "eve")
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text("rtc/v1/garage/peers/+"), []byte{1}, text("rtc/v1/garage/all/+"), []byte{0}))
	receive(t, conn)
	receive(t, conn) // the first presence, which is not acknowledged
	for _, session := range s.allSessions() {
		if session.peer == "cam000" {
			if err := session.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "cam000"}, []byte(`{"type":"x-behind"}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(t, conn, packet(0xA2, []byte{0, 2, 0}, text("rtc/v1/garage/peers/+")))
	for { // of the two which comes first is not said
		if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type == packets.Publish {
			if string(pk.Payload) != `{"type":"x-behind"}` {
				t.Errorf("got %s", pk.Payload)
			}
			return
		}
	}
}

func TestASnapshotThatIsNotSentAgainIsKept(t *testing.T) {
	s := serve(t, Config{})
	s.crowd(t, 20)
	conn := s.windowed(t, "eve")
	for _, handling := range []byte{0, 1 << 4, 2 << 4} { // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
		send(t, conn, packet(0x82, []byte{0, 1, 0}, text("rtc/v1/garage/peers/+"), []byte{1 | handling}))
		receive(t, conn)
		if handling == 0 {
			receive(t, conn)
		}
	}
	if waits := s.backlog(t); waits != 19 {
		t.Errorf("%d messages wait, want the 19 that were not sent", waits)
	}
}

func TestPresencesRetainedAsPublishedHaveTheLimitOfTheQueue(t *testing.T) {
	for what, options := range map[string]byte{"as MQTT 3 has them": 1, "retained as published": 1 | 1<<3} {
		t.Run(what, func(t *testing.T) {
			s := serve(t, Config{Queue: 64 << 10})
			id := peerOf("flap", "garage")
			flap, err := s.Connect(id, "ws", inboxFunc(func(topics.Delivery) error { return nil }))
			if err != nil {
				t.Fatal(err)
			}
			defer flap.Close(true)
			conn := s.windowed(t, "eve")
			send(t, conn, packet(0x82, []byte{0, 1, 0}, text("rtc/v1/garage/peers/+"), []byte{options}))
			receive(t, conn)
			for i := range 30 {
				big := fmt.Appendf(nil, `{"online":true,"info":"%03d%s"}`, i, strings.Repeat("x", 3000))
				if err := flap.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: "flap"}, big); err != nil {
					t.Fatal(err)
				}
			}
			receive(t, conn) // the first presence
			if pk := parsed(t, 5, receive(t, conn)); pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrQuotaExceeded.Code {
				t.Errorf("got %+v, want DISCONNECT 0x97", pk)
			}
		})
	}
}

func TestAskingForSnapshotsHasTheBudgetOfMessages(t *testing.T) {
	threat.Row(t, 17, threat.TCP5)
	for what, filter := range map[string]string{"a room": "rtc/v1/garage/peers/+", "outside the rooms": "home/flood/set"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Config{Rate: 20, Burst: 1, Authenticate: hub, Logger: slog.New(slog.DiscardHandler)})
			conn := s.dial(t)
			send(t, conn, connect5("c", "flood"))
			receive(t, conn)
			ask, asked := packet(0x82, []byte{0, 1, 0}, text(filter), []byte{0}), make(chan struct{})
			go func() {
				defer close(asked)
				for {
					if _, err := conn.Write(ask); err != nil {
						return
					}
				}
			}()
			told := false
			for {
				pk := parsed(t, 5, receive(t, conn))
				if pk.FixedHeader.Type == packets.Disconnect {
					if pk.ReasonCode != packets.ErrMessageRateTooHigh.Code {
						t.Errorf("DISCONNECT %#x, want 0x96", pk.ReasonCode)
					}
					break
				}
				told = told || pk.FixedHeader.Type == packets.Suback && pk.ReasonCodes[0] == packets.ErrQuotaExceeded.Code
			}
			_ = conn.Close()
			<-asked
			if !told {
				t.Error("it was never told")
			}
		})
	}
}
