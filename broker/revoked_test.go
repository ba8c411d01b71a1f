package broker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// What waits when its sender's grant is taken away is not said any more, whatever it
// waited for.

// revocable is a Config.Still with an account that can be revoked.
func revocable(name string) (still func(topics.Identity) (topics.Identity, error), revoke func(*Broker)) {
	var revoked atomic.Bool
	still = func(id topics.Identity) (topics.Identity, error) {
		if id.Name == name && revoked.Load() {
			return id, topics.Errorf(topics.Unauthorized, "the account %s was taken away", name)
		}
		return id, nil
	}
	return still, func(b *Broker) {
		revoked.Store(true)
		b.Recheck()
	}
}

func TestWhatARevokedPeerSaidDoesNotReachASessionThatIsResumed(t *testing.T) {
	threat.Row(t, 7, 0)
	synctest.Test(t, func(t *testing.T) {
		still, revoke := revocable("mallory")
		b := newBroker(t, Config{Still: still})
		mallory := b.open(t, peerOf("mallory", "garage")).join("garage")
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		alice.types()
		alice.s.Suspend(30 * time.Second)
		if err := mallory.s.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "mallory"}, []byte(`{"type":"x-all"}`)); err != nil {
			t.Fatal(err)
		}
		if err := mallory.say("alice", `{"type":"x-direct"}`); err != nil {
			t.Fatal(err)
		}
		revoke(b)
		if err := alice.s.Resume(); err != nil {
			t.Fatal(err)
		}
		alice.expect("-mallory")
	})
}

func TestWhatARevokedPeerSaidIsNotSaidAgainWhenADoorGivesItBack(t *testing.T) {
	threat.Row(t, 7, 0)
	synctest.Test(t, func(t *testing.T) {
		still, revoke := revocable("mallory")
		b := newBroker(t, Config{Still: still})
		mallory := b.open(t, peerOf("mallory", "garage")).join("garage")
		cam := &unproven{inProc: &inProc{t: t, name: "cam1"}}
		var err error
		if cam.s, err = b.Connect(device(), "ws", cam); err != nil {
			t.Fatal(err)
		}
		cam.join("garage")
		if err := mallory.say("cam1", `{"type":"x-direct"}`); err != nil {
			t.Fatal(err)
		}
		revoke(b)
		cam.s.Close(false)
		b.open(t, device()).join("garage").expect("hello")
	})
}

func TestLastWillOfAPeerThatIsRevokedInItsGraceIsNotPublished(t *testing.T) {
	threat.Row(t, 7, 0)
	synctest.Test(t, func(t *testing.T) {
		still, revoke := revocable("mallory")
		b := newBroker(t, Config{Still: still})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		will := &message{Delivery: topics.Delivery{
			Address: topics.Address{Room: "garage", Kind: topics.All, Src: "mallory"},
			Payload: []byte(`{"type":"x-will"}`), Message: topics.Message{Type: "x-will"},
		}}
		for _, revoked := range []bool{false, true} {
			mallory, err := b.newSession(peerOf("mallory", "garage"), "ws", &inProcess{inbox: inboxFunc(func(topics.Delivery) error { return nil })}, will)
			if err != nil {
				t.Fatal(err)
			}
			if err := mallory.Subscribe(inbox("garage", "mallory")); err != nil {
				t.Fatal(err)
			}
			bob.types()
			mallory.Close(false)
			if revoked {
				revoke(b)
			}
			time.Sleep(6 * time.Second)
			synctest.Wait()
			bob.expect(map[bool]string{false: "x-will -mallory", true: "-mallory"}[revoked])
		}
	})
}

func TestTheFateOfWhatAnAdminSaidAsAnotherIsNotToldThatOneWhenADoorGivesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		root := b.open(t, topics.Identity{Name: "root", Grants: []topics.Grant{{Room: "garage", Role: topics.Admin}}})
		if err := root.s.Subscribe(inbox("garage", "root")); err != nil {
			t.Fatal(err)
		}
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		cam := &unproven{inProc: &inProc{t: t, name: "cam1"}}
		var err error
		if cam.s, err = b.Connect(peerOf("cam1", "garage"), "ws", cam); err != nil {
			t.Fatal(err)
		}
		cam.join("garage")
		if err := root.s.Publish(topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "bob"}, []byte(`{"type":"msg"}`)); err != nil {
			t.Fatal(err)
		}
		root.types()
		bob.types()
		cam.s.Close(true)
		root.expect("offline")
		bob.expect("-cam1")
	})
}
