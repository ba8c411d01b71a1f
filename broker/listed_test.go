package broker

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// A device stays listed when it is offline, for as long as it may be there.

func TestADeviceIsNotListedAnyMoreWhenItIsRevoked(t *testing.T) {
	for name, away := range map[string]func(*inProc){
		"that is there":       func(*inProc) {},
		"that is offline":     func(p *inProc) { p.s.Close(true) },
		"in its grace":        func(p *inProc) { p.s.Close(false) },
		"that is suspended":   func(p *inProc) { p.s.Suspend(30 * time.Second) },
		"whose time is up":    func(p *inProc) { p.s.expire() },
		"that was long asked": func(p *inProc) { p.s.Close(true); time.Sleep(24 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				still, revoke := revocable("cam1")
				b := newBroker(t, Config{Still: still})
				alice := b.open(t, peerOf("alice", "garage")).join("garage")
				away(b.open(t, device()).join("garage"))
				alice.types()
				b.Recheck()
				alice.expect("")
				revoke(b)
				alice.expect("-cam1")
				if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); topics.AsError(err).Code != topics.NotFound {
					t.Errorf("said to it: %v, want 404", err)
				}
				if len(b.listed) > 0 {
					t.Errorf("listed: %v", b.listed)
				}
			})
		})
	}
}

func TestASenderIsToldWhenTheSleepingDeviceIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		still, revoke := revocable("cam1")
		b := asleep(t, Config{Still: still})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		alice.types()
		revoke(b)
		alice.expect("offline -cam1")
	})
}

func TestADeviceIsNotListedAnyMoreWhereItMayNotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var narrowed atomic.Bool
		b := asleep(t, Config{Still: func(id topics.Identity) (topics.Identity, error) {
			if id.Name == "cam1" && narrowed.Load() {
				id.Grants = peerOf("cam1", "attic").Grants
			}
			return id, nil
		}})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		alice.types()
		narrowed.Store(true)
		b.Recheck()
		alice.expect("-cam1")
	})
}

func TestADeviceThatWandersThroughRoomsIsListedInSoManyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		id := peerOf("cam1", "*")
		id.Device = true
		cam := b.open(t, id)
		for i := range maxListed + 20 {
			room := fmt.Sprint("r", i)
			cam.join(room)
			if err := cam.s.Publish(topics.Address{Room: room, Kind: topics.Presence, Src: "cam1"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		cam.join("r0") // again, where it is listed
		cam.s.Close(true)
		rooms := 0
		b.rooms.Range(func(_, _ any) bool { rooms++; return true })
		if rooms != maxListed {
			t.Errorf("%d rooms are kept, want %d", rooms, maxListed)
		}
	})
}
