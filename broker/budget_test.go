package broker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/beckon-rtc/beckon/broker/auth"
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

func TestWhoHasNoLimitIsNotHeldToOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []Config{{Rate: -1}, {Rate: 50, Burst: -1}} {
			b := newBroker(t, c)
			bob := b.open(t, peerOf("bob", "garage")).join("garage")
			start := time.Now()
			for range 1000 {
				if err := bob.say("bob", `{"type":"msg"}`); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("%d a second, %d at once: 1000 messages took %v", c.Rate, c.Burst, took)
			}
		}
	})
}

func TestWhoMayTakeForeverToConnectIsAuthenticated(t *testing.T) {
	s := serve(t, Config{Handshake: -1, Authenticate: func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
		if err := ctx.Err(); err != nil {
			return topics.Identity{}, topics.Errorf(topics.Unavailable, "the context has ended: %v", err)
		}
		return auth.Dev(ctx, c)
	}})
	s.client5(t, "alice")
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

// goings are the ways to come and go in one room without an end of the connection.
var goings = map[string]func(*Session) (came, went error){
	"by MQTT, publishing the presence": func(s *Session) (came, went error) {
		at := topics.Address{Room: "garage", Kind: topics.Presence, Src: "p"}
		return s.Publish(at, []byte(topics.PresenceOnline)), s.Publish(at, []byte(topics.PresenceOffline))
	},
	"by MQTT, subscribing to the inbox": func(s *Session) (came, went error) {
		at := topics.Address{Room: "garage", Kind: topics.Presence, Src: "p"}
		return s.Subscribe(inbox("garage", "p")), s.Publish(at, []byte(topics.PresenceOffline))
	},
	"by JSON": func(s *Session) (came, went error) {
		at := topics.Address{Room: "garage", Kind: topics.Presence, Src: "p"}
		return s.Subscribe(s.Identity().Filters(topics.DefaultRoot, "garage")...), s.Publish(at, nil)
	},
}

// goer is a session for one of them, which reads something else in the room.
func goer(t *testing.T, b *Broker, how string) *Session {
	t.Helper()
	via := viaMQTT
	if how == "by JSON" {
		via = "ws"
	}
	s, err := b.newSession(peerOf("p", "garage"), via, &inProcess{inbox: inboxFunc(func(topics.Delivery) error { return nil })}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(true) })
	if via == viaMQTT { // stays, as an MQTT client's may
		if err := s.Subscribe("rtc/v1/garage/all/+"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestComingAndGoingInOneRoomCountsAsJoins(t *testing.T) {
	threat.Row(t, 17, 0)
	for how, comeAndGo := range goings {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{Joins: 10})
				b.open(t, peerOf("bob", "garage")).join("garage")
				s := goer(t, b, how)
				start := time.Now()
				for range 16 {
					if came, went := comeAndGo(s); came != nil || went != nil {
						t.Fatal(came, went)
					}
				}
				if took := time.Since(start); took < 500*time.Millisecond || took > 800*time.Millisecond {
					t.Errorf("coming and going 16 times took %v, want half a second or a bit more", took)
				}
			})
		})
	}
}

// A presence costs a message to each member. The members subscribed to presences alone.
func TestPresencesAreAmplifiedByTheMembersOfTheRoomAndBoundedByTheBudgets(t *testing.T) {
	threat.Row(t, 17, 0)
	const members, joins, rate, burst = 50, 10, 50, 200
	ways := map[string]func(*Session) (came, went error){
		"changing the presence": func(s *Session) (_, _ error) {
			at := topics.Address{Room: "garage", Kind: topics.Presence, Src: "p"}
			return s.Publish(at, fmt.Appendf(nil, `{"online":true,"name":"%d"}`, time.Now().UnixNano())), s.Publish(at, []byte(`{"online":true}`))
		},
	}
	maps.Copy(ways, goings)
	for how, act := range ways {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{Joins: joins, Rate: rate, Burst: burst})
				var shown atomic.Int64
				for i := range members {
					s, err := b.Connect(peerOf(fmt.Sprint("m", i), "garage"), "ws", inboxFunc(func(d topics.Delivery) error {
						if d.Kind == topics.Presence && d.Src == "p" {
							shown.Add(1)
						}
						return nil
					}))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { s.Close(true) })
					if err := s.Subscribe("rtc/v1/garage/peers/+"); err != nil {
						t.Fatal(err)
					}
				}
				s := goer(t, b, how)
				start, refused := time.Now(), 0
				for refused < maxStrikes { // then it is cut off
					for _, err := range two(act(s)) {
						if err != nil && topics.AsError(err).Code != topics.RateLimited {
							t.Fatal(err)
						}
						if err != nil {
							refused++
						}
					}
				}
				took := time.Since(start).Seconds()
				most := 2 * (joins + 1 + joins*took) // each comes and goes
				if how == "changing the presence" {
					most = burst + 1 + rate*took
				}
				if ratio := float64(shown.Load()) / members; ratio > most || ratio < most/2 {
					t.Errorf("in %v s each member was shown %v presences, the budget is %v", took, ratio, most)
				}
			})
		})
	}
}

func two(a, b error) []error { return []error{a, b} }

func TestJoiningARoomAgainCountsAsAJoin(t *testing.T) {
	threat.Row(t, 17, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Joins: 10, Rate: -1})
		start := time.Now()
		p := b.open(t, peerOf("p", "garage")).join("garage")
		for range 19 {
			p.join("garage")
		}
		if took := time.Since(start); took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("joining twenty times took %v, want a second", took)
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
