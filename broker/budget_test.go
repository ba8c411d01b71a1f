package broker

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestWhoIsOverTheBudgetIsSlowedDownThenToldThenCut(t *testing.T) {
	threat.Row(t, 16, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Rate: 50, Burst: 200})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		flood := b.open(t, peerOf("flood", "garage")).join("garage")
		bob.types()
		flood.types()
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "bob", Src: "flood"}
		start := time.Now()
		delivered, refused := 0, 0
		for refused < maxStrikes {
			err := flood.s.Publish(to, []byte(`{"type":"msg","data":1}`))
			switch {
			case err == nil:
				delivered++
			case topics.AsError(err).Code == topics.RateLimited && topics.AsError(err).RetryAfter > 0:
				refused++
			default:
				t.Fatal(err)
			}
		}
		took := time.Since(start)
		if most := 200 + int(50*took.Seconds()) + 1; delivered > most {
			t.Errorf("%d messages were delivered in %v, the budget is %d", delivered, took, most)
		}
		if took < 3*time.Second || took > 4*time.Second {
			t.Errorf("it took %v until it was cut off", took)
		}
		if got := strings.Count(bob.types(), "msg"); got != delivered {
			t.Errorf("%d of %d messages arrived", got, delivered)
		}
		flood.expect("rate-limited") // for the door, which closes with 4029
	})
}

func TestWhoKeepsToTheBudgetIsNeverRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Rate: 50, Burst: 200})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "bob", Src: "bob"}
		for range 20 { // twenty calls, a burst of candidates each
			for range 45 {
				if err := bob.s.Publish(to, []byte(`{"type":"msg"}`)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
	})
}

func TestJoinsHaveABudgetOfTheirOwn(t *testing.T) {
	threat.Row(t, 17, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Joins: 10, MaxRooms: -1})
		start := time.Now()
		p := b.open(t, peerOf("p", "*"))
		for i := range 20 {
			if err := p.s.Subscribe(inbox("room"+string(rune('a'+i)), "p")); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("twenty joins took %v, want a second", took)
		}
	})
}

func TestComingAndGoingInOneRoomCountsAsJoins(t *testing.T) {
	threat.Row(t, 17, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Joins: 10})
		s, err := b.newSession(peerOf("p", "garage"), viaMQTT, &inProcess{inbox: inboxFunc(func(topics.Delivery) error { return nil })}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(true)
		if err := s.Subscribe(inbox("garage", "p")); err != nil { // stays, as an MQTT client's may
			t.Fatal(err)
		}
		start := time.Now()
		for range 15 {
			for _, presence := range []string{topics.PresenceOffline, topics.PresenceOnline} {
				if err := s.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: "p"}, []byte(presence)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if took := time.Since(start); took < 500*time.Millisecond || took > 700*time.Millisecond {
			t.Errorf("coming and going 15 times took %v, want half a second", took)
		}
	})
}

func TestFloodingMQTTClientIsCutWithItsReason(t *testing.T) {
	for what, topic := range map[string]string{
		"a room":            "rtc/v1/garage/all/flood",
		"malformed":         "rtc/v1/gar age/all/flood",
		"outside the rooms": "home/flood/motion",
	} {
		t.Run(what, func(t *testing.T) { flood(t, topic) })
	}
}

func flood(t *testing.T, topic string) {
	s := serve(t, Config{Rate: 20, Burst: 1, Authenticate: hub, Logger: slog.New(slog.DiscardHandler)})
	conn := s.dial(t)
	send(t, conn, connect5("c", "flood"))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "flood")), []byte{0}))
	receive(t, conn)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		p := packet(0x32, text(topic), []byte{0, 1, 0}, []byte(`{"type":"msg"}`))
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := conn.Write(p); err != nil {
					return
				}
			}
		}
	}()
	told := 0
	for {
		pk := parsed(t, 5, receive(t, conn))
		if strings.Contains(string(pk.Payload), `"code":429`) || pk.FixedHeader.Type == packets.Puback && pk.ReasonCode == packets.ErrQuotaExceeded.Code {
			told++
		}
		if pk.FixedHeader.Type == packets.Disconnect {
			if pk.ReasonCode != packets.ErrMessageRateTooHigh.Code {
				t.Errorf("DISCONNECT %#x, want 0x96", pk.ReasonCode)
			}
			break
		}
	}
	if told == 0 {
		t.Error("it was never told")
	}
}

// A message that needs no wait, between others that do, forgives nothing.
func TestFloodJustAboveTheBudgetIsCutToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Rate: 50, Burst: 1})
		flood := b.open(t, peerOf("flood", "garage")).join("garage")
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "flood", Src: "flood"}
		begin, refused := time.Now(), 0
		for n := range 5000 {
			if flood.s.Publish(to, []byte(`{"type":"msg"}`)) != nil {
				refused++
			}
			if refused == maxStrikes {
				return
			}
			if n%10 == 9 {
				time.Sleep(25 * time.Millisecond)
			}
		}
		t.Errorf("in %v it was refused %d times", time.Since(begin), refused)
	})
}
