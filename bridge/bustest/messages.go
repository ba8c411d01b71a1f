package bustest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func byteForByte(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	for _, payload := range []string{
		`{"type":"offer","session":"k3","sdp":"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n"}`,
		" \t{ \"type\" : \"msg\" ,\n\"data\":[ 1.0e+3, -0, \"\\u00e9\\/é\", {} ]\r\n} ",
		`{"unknown":{"b":1,"a":2},"session":"k3","type":"candidate","candidate":""}`,
		`{"type":"x-mine","id":7,"peer":"nobody","token":"t","presence":null}`,
		`{"type":"msg","data":"` + strings.Repeat("long ", 2000) + `"}`,
	} {
		for _, a := range []topics.Address{alice.to("bob"), alice.toAll()} {
			alice.publish(a, payload)
			if d := bob.message("alice"); string(d.Payload) != payload {
				t.Errorf("%q arrived as %q", payload, d.Payload)
			}
		}
	}
}

func known(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	for _, c := range []struct {
		a       topics.Address
		payload string
		want    topics.Message
	}{
		{alice.to("bob"), `{"type":"offer","session":"k3","sdp":""}`, topics.Message{Type: "offer", Session: "k3"}},
		{alice.to("bob"), `{"type":"msg","from":"alice","to":"bob"}`, topics.Message{Type: "msg", Routed: true}},
		{alice.toAll(), `{"type":"msg","room":"garage"}`, topics.Message{Type: "msg", Routed: true}},
	} {
		alice.publish(c.a, c.payload)
		if d := bob.message("alice"); d.Address != c.a || d.Message != c.want || d.Retained {
			t.Errorf("%s to %+v came as %+v", c.payload, c.a, d)
		}
	}
}

func toAll(t *testing.T, bus bridge.Connect) {
	alice, bob, carol := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("carol"))
	alice.publish(alice.toAll(), `{"type":"msg","data":"hi"}`)
	bob.message("alice")
	carol.message("alice")
	alice.fence(bob)
	alice.nothing("an echo", func(d topics.Delivery) bool { return isMessage(d) && d.Src == "alice" })
}

func direct(t *testing.T, bus bridge.Connect) {
	alice, bob, carol := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("carol"))
	alice.publish(alice.to("bob"), `{"type":"msg","data":"psst"}`)
	bob.message("alice")
	carol.fence(alice)
	alice.fence(carol)
	carol.nothing("a message to bob", isMessage)
	alice.nothing("an echo", isMessage)
}

func order(t *testing.T, bus bridge.Connect) {
	const n = 300
	bob := join(t, bus, PeerOf("bob"))
	var senders sync.WaitGroup
	for _, name := range []string{"alice", "carol"} {
		c := join(t, bus, PeerOf(name))
		senders.Go(func() {
			for i := range n {
				if err := c.Publish(c.to("bob"), fmt.Appendf(nil, `{"type":"msg","data":%d}`, i)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	for _, name := range []string{"alice", "carol"} {
		for i := range n {
			if d := bob.message(name); string(d.Payload) != fmt.Sprintf(`{"type":"msg","data":%d}`, i) {
				t.Fatalf("message %d of %s is %s", i, name, d.Payload)
			}
		}
	}
	senders.Wait()
}

func presenceFirst(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	of := func(d topics.Delivery) bool { return d.Src == "alice" }
	if d := bob.wait("alice", of); d.Kind != topics.Presence {
		t.Errorf("first came %s", d.Payload)
	}
}

func notRetained(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	alice.publish(alice.toAll(), `{"type":"msg"}`)
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
	bob.message("alice")
	bob.subscribe()
	bob.nothing("an old message", func(d topics.Delivery) bool { return isMessage(d) && d.Src != topics.Server })
}

func separateRooms(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	if err := bob.Subscribe(bob.id.Filters(topics.DefaultRoot, "attic")...); err != nil {
		t.Fatal(err)
	}
	alice.in.all()
	attic := bob.toAll()
	attic.Room = "attic"
	bob.publish(attic, `{"type":"msg","data":"upstairs"}`)
	attic.Kind, attic.Dst = topics.Direct, "alice"
	bob.refused(topics.NotFound, bob.Publish(attic, []byte(`{"type":"msg"}`)))
	alice.fence(bob)
	alice.nothing("something of the other room", anything)
}

// enter joins a room other than that of the tests.
func (c *client) enter(room string) {
	c.t.Helper()
	c.publish(topics.Address{Room: room, Kind: topics.Presence, Src: c.name}, topics.PresenceOnline)
	if err := c.Subscribe(c.id.Filters(topics.DefaultRoot, room)...); err != nil {
		c.t.Fatalf("%s joins %s: %v", c.name, room, err)
	}
}

func manyRooms(t *testing.T, bus bridge.Connect) {
	alice := connect(t, bus, PeerOf("alice"))
	for i := range 32 {
		alice.enter(fmt.Sprintf("room%d", i))
	}
	bob := connect(t, bus, PeerOf("bob"))
	bob.enter("room31")
	bob.publish(topics.Address{Room: "room31", Kind: topics.All, Src: "bob"}, `{"type":"msg"}`)
	alice.message("bob")
}

func roomsInTurn(t *testing.T, bus bridge.Connect) {
	alice := connect(t, bus, PeerOf("alice"))
	for i := range 100 {
		room := fmt.Sprintf("room%d", i)
		alice.enter(room)
		alice.publish(topics.Address{Room: room, Kind: topics.Presence, Src: "alice"}, "")
	}
}

func ice(t *testing.T, bus bridge.Connect) {
	alice := join(t, bus, PeerOf("alice"))
	alice.publish(alice.to(topics.Server), `{"type":"ice"}`)
	d := alice.message(topics.Server)
	var got topics.Hello
	if err := json.Unmarshal(d.Payload, &got); err != nil || got.Type != topics.TypeICE || got.ICEServers == nil {
		t.Errorf("the answer is %s (%v)", d.Payload, err)
	}
	alice.refused(topics.BadRequest, alice.Publish(alice.to(topics.Server), []byte(`{"type":"msg"}`)))
}
