package broker

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestWhatWaitsForADeviceOutlivesItsGraceAndIsToldAfterTwentySecondsInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		id := peerOf("cam1", "garage")
		id.Device = true
		b.open(t, id).join("garage").s.Close(false)
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}
		start := time.Now()
		time.Sleep(2 * time.Second)
		if err := alice.s.Publish(to, []byte(`{"type":"offer","session":"k3","sdp":""}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := alice.s.Publish(to, []byte(`{"type":"x-late"}`)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		alice.types()
		for _, want := range []time.Duration{22 * time.Second, 32 * time.Second} {
			time.Sleep(time.Until(start.Add(want - 1)))
			synctest.Wait()
			alice.expect("")
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			alice.expect("offline")
		}
	})
}

func TestADeviceThatWakesAfterItsGraceGetsTheCallThatBeganMeanwhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		id := peerOf("cam1", "garage")
		id.Device = true
		cam := b.open(t, id).join("garage")
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}
		say := func(payload string) {
			if err := alice.s.Publish(to, []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		say(`{"type":"offer","session":"old","sdp":""}`)
		cam.s.Close(false)
		say(`{"type":"candidate","session":"old","candidate":""}`)
		say(`{"type":"offer","session":"new","sdp":""}`)
		say(`{"type":"candidate","session":"new","candidate":""}`)
		alice.types()
		time.Sleep(6 * time.Second) // the old call ends with the grace
		synctest.Wait()
		alice.expect("offline bye +cam1")
		b.open(t, id).join("garage").expect("+alice hello offer candidate")
	})
}

func TestASuspendedSessionThatMissesTooMuchIsJoinedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Queue: 4096})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		alice.s.Suspend(30 * time.Second)
		all := topics.Address{Room: "garage", Kind: topics.All, Src: "bob"}
		for range 5 {
			if err := bob.s.Publish(all, fmt.Appendf(nil, `{"type":"msg","data":"%01000d"}`, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if alice.s.Resume() == nil {
			t.Error("it was resumed, with a gap")
		}
		alice.s.Close(false)
		b.open(t, peerOf("alice", "garage")).join("garage").expect("+bob hello")
	})
}

func TestASuspendedSessionEndsWithItsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		id := peerOf("alice", "garage")
		id.Expires = time.Now().Add(3 * time.Second)
		alice := b.open(t, id).join("garage")
		alice.s.Suspend(30 * time.Second)
		time.Sleep(4 * time.Second)
		if alice.s.Resume() == nil {
			t.Error("it was resumed with credentials that have expired")
		}
	})
}

func TestAPeerWhoseGrantEndsWhileItIsSuspendedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		bob.types()
		alice.s.Suspend(30 * time.Second)
		if err := alice.s.Renew(peerOf("alice", "attic")); err != nil {
			t.Fatal(err)
		}
		bob.expect("-alice")
		if err := alice.s.Resume(); err != nil {
			t.Error(err)
		}
	})
}

func TestASuspendedSessionIsToldWhatItIsNotGrantedAnyMoreAndNobodyOfWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		bob.types()
		alice.types()
		alice.s.Suspend(30 * time.Second)
		if err := bob.s.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "bob"}, []byte(`{"type":"msg"}`)); err != nil {
			t.Fatal(err)
		}
		if err := alice.s.Renew(peerOf("alice", "attic")); err != nil {
			t.Fatal(err)
		}
		bob.expect("-alice")
		alice.expect("forbidden")
	})
}

// unproven is a door whose client proves nothing that it was told.
type unproven struct {
	*inProc
	told []topics.Delivery
}

func (u *unproven) Take(d topics.Delivery) error {
	if d.Kind == topics.Direct && d.Src != topics.Server {
		d.Handed = true
		u.told = append(u.told, d)
	}
	return u.take(d)
}

func (u *unproven) Back(string) []topics.Delivery { return u.told }

func TestWhatASuspendedDeviceGaveBackDoesNotHoldUpWhatWasSaidLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := 0
		b := newBroker(t, Config{Wake: func(_, _, _, _ string) { woken++ }})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := &unproven{inProc: &inProc{t: t, name: "cam1"}}
		var err error
		if cam.s, err = b.Connect(device(), "ws", cam); err != nil {
			t.Fatal(err)
		}
		cam.join("garage")
		alice.types()
		say := func(payload string) {
			if err := alice.say("cam1", "%s", payload); err != nil {
				t.Fatal(err)
			}
		}
		say(`{"type":"x-given-back"}`)
		cam.s.Suspend(30 * time.Second)
		say(`{"type":"offer","session":"k3"}`)
		time.Sleep(15 * time.Second)
		say(`{"type":"x-later"}`)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		alice.expect("offline") // about the offer
		time.Sleep(10 * time.Second)
		synctest.Wait()
		alice.expect("offline +cam1") // about what the session had until it ended
		time.Sleep(5 * time.Second)
		synctest.Wait()
		alice.expect("offline")
		if woken > 0 {
			t.Error("it was to be woken for an offer that nobody waits for any more")
		}
	})
}

func TestAnErrorThatOverflowsWhatASuspendedSessionMissedIsToldTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		cam := b.open(t, device()).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam.s.Close(true)
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		alice.s.Suspend(30 * time.Second)
		for range maxMissed {
			if err := bob.s.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "bob"}, []byte(`{"type":"x-all"}`)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(21 * time.Second) // nobody woke it
		b.open(t, peerOf("alice", "garage")).join("garage").expect("+bob +cam1 hello offline")
		alice.s.Close(false)
	})
}

func TestASessionThatMissesTooMuchInOneRoomWhileAnotherIsResumedIsJoinedAnew(t *testing.T) {
	b := newBroker(t, Config{Grace: long})
	bob := b.open(t, peerOf("bob", "garage", "attic")).join("garage").join("attic")
	say := func(room string) {
		if err := bob.s.Publish(topics.Address{Room: room, Kind: topics.All, Src: "bob"}, []byte(`{"type":"x-all"}`)); err != nil {
			t.Error(err)
		}
	}
	var alice *Session
	var first sync.Once
	said := make(chan struct{})
	take := func(d topics.Delivery) error {
		if d.Type != "x-all" {
			return nil
		}
		first.Do(func() {
			go func() {
				defer close(said)
				for range maxMissed + 1 {
					say(map[string]string{"garage": "attic", "attic": "garage"}[d.Room])
				}
			}()
			for missed := false; !missed; runtime.Gosched() {
				alice.mu.Lock()
				missed = alice.missed
				alice.mu.Unlock()
			}
		})
		return nil
	}
	var err error
	if alice, err = b.Connect(peerOf("alice", "garage", "attic"), "ws", inboxFunc(take)); err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"garage", "attic"} {
		if err := alice.Subscribe(alice.Identity().Filters(topics.DefaultRoot, room)...); err != nil {
			t.Fatal(err)
		}
	}
	alice.Suspend(long)
	say("garage")
	say("attic")
	if alice.Resume() == nil {
		t.Error("it was resumed, and is not in one of its rooms")
	}
	<-said
	alice.Close(true)
}

// ending is an inbox whose connection ends, unnoticed as yet, when it is told to.
type ending struct {
	*inProc
	offline atomic.Bool
}

func (e *ending) Take(d topics.Delivery) error {
	if e.offline.Load() {
		return topics.Errorf(topics.Offline, "it is ending")
	}
	return e.take(d)
}

func (*ending) Back(string) []topics.Delivery { return nil }

func TestAnErrorToldWhileItsReceiversConnectionEndsGoesToTheNextOne(t *testing.T) {
	for what, away := range map[string]bool{"told just now": false, "told when it came back for a moment": true} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := asleep(t, Config{})
				alice := &ending{inProc: &inProc{t: t, name: "alice"}}
				var err error
				if alice.s, err = b.Connect(peerOf("alice", "garage"), "ws", alice); err != nil {
					t.Fatal(err)
				}
				alice.join("garage")
				if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
					t.Fatal(err)
				}
				if away {
					alice.s.Suspend(30 * time.Second)
				}
				alice.offline.Store(true)
				time.Sleep(21 * time.Second)
				synctest.Wait()
				if away {
					if err := alice.s.Resume(); err != nil {
						t.Fatal(err)
					}
				}
				alice.s.Close(false)
				b.open(t, peerOf("alice", "garage")).join("garage").expect("+cam1 hello offline")
			})
		})
	}
}

func TestAnOfferThatADoorGaveBackAndNobodyTookInTimeEndsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Grace: 10 * time.Second, Hold: 5 * time.Second})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := &unproven{inProc: &inProc{t: t, name: "cam1"}}
		var err error
		if cam.s, err = b.Connect(peerOf("cam1", "garage"), "ws", cam); err != nil {
			t.Fatal(err)
		}
		cam.join("garage")
		alice.types()
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		cam.s.Close(false)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		alice.expect("offline -cam1")
	})
}

func TestAByeBeyondTheLimitWaitsAsLongAsAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{MaxHeld: 1})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		alice.s.Close(true)
		time.Sleep(11 * time.Second)
		b.open(t, device()).join("garage").expect("hello bye")
	})
}

func TestASenderInItsGraceIsToldOfWhatADoorGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice := &unproven{inProc: &inProc{t: t, name: "alice"}}
		var err error
		if alice.s, err = b.Connect(peerOf("alice", "garage"), "ws", alice); err != nil {
			t.Fatal(err)
		}
		alice.join("garage")
		if err := bob.say("alice", `{"type":"msg"}`); err != nil {
			t.Fatal(err)
		}
		bob.s.Close(false)
		alice.s.Close(true)
		b.open(t, peerOf("bob", "garage")).join("garage").expect("hello offline")
	})
}

func TestASenderIsToldThoughTheGrantOfTheSuspendedDeviceWasTakenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := b.open(t, device()).join("garage")
		cam.s.Suspend(30 * time.Second)
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		alice.types()
		less := device()
		less.Grants = peerOf("cam1", "attic").Grants
		if err := cam.s.Renew(less); err != nil {
			t.Fatal(err)
		}
		alice.expect("offline -cam1")
	})
}

func TestASuspendedSessionThatMissesTooMuchIsGoneThoughThereIsNoGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Queue: 4096, Grace: -1})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if err := bob.say("alice", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		bob.types()
		alice.s.Suspend(30 * time.Second)
		for range 5 {
			if err := bob.s.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "bob"}, fmt.Appendf(nil, `{"type":"msg","data":"%01000d"}`, 0)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		bob.expect("bye -alice")
		alice.s.Close(false)
	})
}

func TestWhatWaitsForADeviceThatJoinsByItsPresenceAloneIsToldThoughThereIsNoGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{Grace: -1})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		cam := b.open(t, device())
		if err := cam.s.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: "cam1"}, []byte(`{"online":true}`)); err != nil {
			t.Fatal(err)
		}
		alice.types()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		alice.expect("offline")
	})
}
