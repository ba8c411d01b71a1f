package bustest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func resumes(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.Suspend(10 * grace)
	bob.publish(bob.to("alice"), `{"type":"msg","data":0}`)
	bob.publish(bob.toAll(), `{"type":"msg","data":1}`)
	carol := join(t, bus, PeerOf("carol"))
	bob.presence("carol")
	carol.publish(carol.to("alice"), `{"type":"msg","data":2}`)
	carol.Close(true)
	bob.publish(bob.to("alice"), `{"type":"msg","data":3}`)
	alice.nothing("anything", anything)
	if err := alice.Resume(); err != nil {
		t.Fatal(err)
	}
	var got string
	for _, d := range alice.in.all() {
		got += fmt.Sprintf("%s %s %d\n", d.Kind, d.Src, len(d.Payload))
	}
	n := len(`{"type":"msg","data":0}`)
	presence := len(topics.Announce([]byte(topics.PresenceOnline), time.Now().Unix(), "ws"))
	want := fmt.Sprintf("to bob %d\nall bob %d\npeers carol %d\nto carol %d\npeers carol 0\nto bob %d\n", n, n, presence, n, n)
	if got != want {
		t.Errorf("alice missed\n%swant\n%s", got, want)
	}
	bob.publish(bob.to("alice"), `{"type":"msg","data":4}`)
	alice.message("bob")
	bob.fence(alice)
	bob.nothing("alice coming or going", func(d topics.Delivery) bool { return isPresence(d) && d.Src == "alice" })
}

func notResumed(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	since := time.Now()
	alice.Suspend(0) // the grace
	bob.publish(bob.to("alice"), `{"type":"msg"}`)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s", p.Payload)
	}
	if took := time.Since(since); took < grace*9/10 {
		t.Errorf("alice was given up after %v, the grace is %v", took, grace)
	}
	bob.wait("the fate of what was held", func(d topics.Delivery) bool { return d.Src == topics.Server && d.Type == topics.TypeError })
	alice.wait("the end", func(d topics.Delivery) bool { return d.Room == "" && d.Type == topics.TypeError })
	if alice.Resume() == nil {
		t.Error("it was resumed all the same")
	}
}

func notResumable(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.Suspend(-1)
	if _, told := alice.in.find(func(d topics.Delivery) bool { return d.Room == "" && d.Type == topics.TypeError }); !told {
		t.Error("the inbox was not told of the end when Suspend returned")
	}
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s", p.Payload)
	}
	if alice.Resume() == nil {
		t.Error("it was resumed all the same")
	}
}

func missedTooMuch(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	attic := topics.Address{Room: "attic", Kind: topics.Presence, Src: "alice"}
	alice.publish(attic, topics.PresenceOnline)
	if err := alice.Subscribe(alice.id.Filters(topics.DefaultRoot, "attic")...); err != nil {
		t.Fatal(err)
	}
	carol := connect(t, bus, PeerOf("carol"))
	if err := carol.Subscribe(carol.id.Filters(topics.DefaultRoot, "attic")...); err != nil {
		t.Fatal(err)
	}
	bob.presence("alice")
	carol.presence("alice")
	alice.Suspend(10 * grace)
	for range 300 {
		bob.publish(bob.toAll(), `{"type":"msg"}`)
	}
	if alice.Resume() == nil {
		t.Error("it was resumed, with a gap")
	}
	alice.Close(false)
	for _, other := range []*client{bob, carol} { // in the room in which it missed too much, and in the other
		if p := other.presence("alice"); len(p.Payload) > 0 {
			t.Errorf("%s sees %s", other.name, p.Payload)
		}
	}
}

func takesOverSuspended(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.Suspend(10 * grace)
	bob.publish(bob.to("alice"), `{"type":"msg","data":1}`)
	next := connect(t, bus, PeerOf("alice"))
	next.join(topics.PresenceOnline)
	if d := next.message("bob"); string(d.Payload) != `{"type":"msg","data":1}` {
		t.Errorf("the new one got %s", d.Payload)
	}
	alice.Close(false)
	bob.publish(bob.to("alice"), `{"type":"msg","data":2}`)
	next.message("bob")
	bob.fence(next)
	bob.nothing("alice going", func(d topics.Delivery) bool { return isPresence(d) && len(d.Payload) == 0 })
}

func heardLater(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.Suspend(10 * grace)
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	alice.Suspend(10 * grace)
	bob.Close(true) // alice's message is lost with it
	next := connect(t, bus, PeerOf("alice"))
	next.join(topics.PresenceOnline)
	d := next.wait("the fate of its message", func(d topics.Delivery) bool { return d.Src == topics.Server && d.Type == topics.TypeError })
	if !strings.Contains(string(d.Payload), `"about":"msg"`) || !strings.Contains(string(d.Payload), `"to":"bob"`) {
		t.Errorf("the new one was told %s", d.Payload)
	}
}

func closedFirst(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	alice.Close(true)
	alice.in.all()
	for _, most := range []time.Duration{-1, time.Nanosecond} {
		alice.Suspend(most)
		if alice.Resume() == nil {
			t.Errorf("it was resumed (%v)", most)
		}
	}
	alice.Close(true)
	next := join(t, bus, PeerOf("alice"))
	bob.fence(next)
	alice.nothing("something after it was closed", anything)
}

func givenBack(t *testing.T, bus bridge.Connect, _ time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.publish(bob.to("alice"), `{"type":"msg","data":1}`)
	alice.in.back = []topics.Delivery{alice.message("bob")}
	alice.Close(false)
	bob.publish(bob.to("alice"), `{"type":"msg","data":2}`)
	next := connect(t, bus, PeerOf("alice"))
	next.join(topics.PresenceOnline)
	for i := range 2 {
		if d := next.message("bob"); string(d.Payload) != fmt.Sprintf(`{"type":"msg","data":%d}`, i+1) {
			t.Errorf("message %d is %s", i+1, d.Payload)
		}
	}
}

func givenBackAndTold(t *testing.T, bus bridge.Connect, _ time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.publish(bob.to("alice"), `{"type":"msg","data":1}`)
	alice.in.back = []topics.Delivery{alice.message("bob")}
	alice.Close(true)
	bob.wait("the fate of the message", func(d topics.Delivery) bool { return d.Src == topics.Server && d.Type == topics.TypeError })
}
