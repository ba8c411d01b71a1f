package bustest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func takeover(t *testing.T, bus bridge.Connect) {
	bob, old := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	fresh := join(t, bus, PeerOf("alice"))

	told := old.message(topics.Server)
	var e struct {
		Type, Reason string
		Code         topics.Code
	}
	if err := json.Unmarshal(told.Payload, &e); err != nil || told.Type != topics.TypeError || e.Code != topics.Replaced || e.Reason != "replaced" || told.Room != room {
		t.Errorf("the old one was told %s (%v)", told.Payload, err)
	}
	old.refused(topics.Forbidden, old.Publish(old.to("bob"), []byte(`{"type":"msg"}`)))
	old.refused(topics.Forbidden, old.Publish(old.toAll(), []byte(`{"type":"msg"}`)))

	bob.publish(bob.to("alice"), `{"type":"msg","data":"to the new one"}`)
	bob.publish(bob.toAll(), `{"type":"msg","data":"to all"}`)
	fresh.message("bob")
	fresh.message("bob")
	old.nothing("what is for the new one", anything)
	fresh.publish(fresh.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
	bob.nothing("alice gone", func(d topics.Delivery) bool { return isPresence(d) && len(d.Payload) == 0 })
}

func lateClose(t *testing.T, bus bridge.Connect) {
	for _, left := range []bool{true, false} {
		bob, old := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
		fresh := join(t, bus, PeerOf("alice"))
		bob.fence(fresh)
		bob.in.all()
		old.Close(left)
		bob.publish(bob.to("alice"), `{"type":"msg"}`)
		fresh.message("bob")
		fresh.publish(fresh.to("bob"), `{"type":"msg"}`)
		bob.message("alice")
		bob.nothing("a presence of alice", isPresence)
		fresh.Close(true)
		bob.Close(true)
	}
}

func left(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.Close(true)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s", p.Payload)
	}
	if err := bob.Publish(bob.to("alice"), []byte(`{"type":"msg"}`)); err == nil {
		t.Error("a message to who left was accepted")
	}
}

func byes(t *testing.T, bus bridge.Connect) {
	alice, bob, carol := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("carol"))
	alice.publish(alice.to("bob"), `{"type":"start","session":"open"}`)
	bob.publish(bob.to("alice"), `{"type":"offer","session":"open","sdp":""}`)
	carol.publish(carol.to("bob"), `{"type":"offer","session":"theirs","sdp":""}`)
	alice.publish(alice.to("bob"), `{"type":"offer","session":"ended","sdp":""}`)
	bob.publish(bob.to("alice"), `{"type":"bye","session":"ended","reason":"hangup"}`)
	alice.fence(bob)
	alice.in.all()
	bob.Close(true)

	if d := alice.message("bob"); !bytes.Equal(d.Payload, topics.Bye("open")) || d.Address != bob.to("alice") || d.Session != "open" {
		t.Errorf("alice was told %s of %+v", d.Payload, d.Address)
	}
	if d := carol.message("bob"); !bytes.Equal(d.Payload, topics.Bye("theirs")) {
		t.Errorf("carol was told %s", d.Payload)
	}
	alice.fence(carol)
	alice.nothing("another bye", isMessage)
}

func closed(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	carol := join(t, bus, PeerOf("carol"))
	alice.Close(true)
	alice.Close(true)
	alice.Close(false)
	alice.in.all()
	if alice.Publish(alice.own(), []byte(topics.PresenceOnline)) == nil || alice.Subscribe(alice.id.Filters(topics.DefaultRoot, room)...) == nil {
		t.Error("a closed session is of use")
	}
	bob.publish(bob.toAll(), `{"type":"msg"}`)
	carol.message("bob")
	alice.nothing("something after it was closed", anything)
}

func lost(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.publish(alice.to("bob"), `{"type":"start","session":"k3"}`)
	bob.message("alice")
	since := time.Now()
	alice.Close(false)
	bob.publish(bob.to("alice"), `{"type":"msg","data":"held"}`)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s", p.Payload)
	}
	if took := time.Since(since); took < grace*9/10 {
		t.Errorf("alice was given up after %v, the grace is %v", took, grace)
	}
	bob.wait("the bye of alice", func(d topics.Delivery) bool { return bytes.Equal(d.Payload, topics.Bye("k3")) })
	bob.wait("the fate of what was held", func(d topics.Delivery) bool { return d.Src == topics.Server && d.Type == topics.TypeError })
	if err := bob.Publish(bob.to("alice"), []byte(`{"type":"msg"}`)); err == nil {
		t.Error("a message to who is gone was accepted")
	}
}

func comesBack(t *testing.T, bus bridge.Connect, _ time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.fence(alice)
	alice.Close(false)
	for i := range 3 {
		bob.publish(bob.to("alice"), fmt.Sprintf(`{"type":"msg","data":%d}`, i))
	}
	back := connect(t, bus, PeerOf("alice"))
	back.join(topics.PresenceOnline)
	for i := range 3 {
		if d := back.message("bob"); string(d.Payload) != fmt.Sprintf(`{"type":"msg","data":%d}`, i) {
			t.Errorf("message %d is %s", i, d.Payload)
		}
	}
	bob.fence(back)
	bob.nothing("alice gone", func(d topics.Delivery) bool { return isPresence(d) && len(d.Payload) == 0 })
}
