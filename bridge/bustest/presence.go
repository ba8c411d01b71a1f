package bustest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func joining(t *testing.T, bus bridge.Connect) {
	bob := connect(t, bus, PeerOf("bob"))
	bob.join(`{"online":true,"name":"Bob"}`)
	alice := connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)

	var hello topics.Hello
	var snapshot []string
	for _, d := range alice.in.all() {
		switch {
		case d.Kind == topics.Presence && d.Retained:
			snapshot = append(snapshot, d.Src)
			if !strings.HasPrefix(string(d.Payload), `{"online":true,"name":"Bob"`) {
				t.Errorf("the snapshot has %s", d.Payload)
			}
		case d.Src == topics.Server && d.Type == topics.TypeHello:
			if hello.Type != "" {
				t.Error("hello came twice")
			}
			if err := json.Unmarshal(d.Payload, &hello); err != nil {
				t.Errorf("hello: %v", err)
			}
			if d.Dst != "alice" || d.Room != room || d.Kind != topics.Direct || d.Retained {
				t.Errorf("hello came as %+v", d.Address)
			}
		default:
			t.Errorf("there came %s", show([]topics.Delivery{d}))
		}
	}
	if fmt.Sprint(snapshot) != "[bob]" {
		t.Errorf("the snapshot is of %v, want of bob", snapshot)
	}
	if hello.Room != room || hello.Peer != "alice" || hello.ICEServers == nil || hello.Max <= 0 {
		t.Errorf("hello is %+v", hello)
	}
}

func joiningByInbox(t *testing.T, bus bridge.Connect) {
	bob := join(t, bus, PeerOf("bob"))
	alice := connect(t, bus, PeerOf("alice"))
	alice.subscribe()
	if p := bob.presence("alice"); !strings.HasPrefix(string(p.Payload), `{"online":true`) {
		t.Errorf("the presence is %s", p.Payload)
	}
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
}

func subscribingAgain(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	alice.subscribe()
	alice.wait("bob in the snapshot", func(d topics.Delivery) bool { return d.Retained && d.Src == "bob" })
	alice.wait("hello", func(d topics.Delivery) bool { return d.Type == topics.TypeHello })
	bob.publish(bob.toAll(), `{"type":"msg","data":"once"}`)
	alice.message("bob")
	alice.fence(bob)
	alice.nothing("more", anything)
}

func seen(t *testing.T, bus bridge.Connect) {
	bob := join(t, bus, PeerOf("bob"))
	alice := connect(t, bus, PeerOf("alice"))
	alice.join(`{"online":true,"name":"A"}`)
	p := bob.presence("alice")
	var got struct {
		Online    bool
		Name, Via string
		Since     int64
	}
	if err := json.Unmarshal(p.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if age := time.Since(time.Unix(got.Since, 0)); !got.Online || got.Name != "A" || got.Via != "ws" || age < -time.Minute || age > time.Minute {
		t.Errorf("the presence is %s", p.Payload)
	}
	if p.Retained || p.Room != room || p.Message != (topics.Message{}) {
		t.Errorf("it came as %+v", p)
	}
}

func updated(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.publish(alice.own(), `{"online":true,"muted":true}`)
	if p := bob.presence("alice"); !strings.HasPrefix(string(p.Payload), `{"online":true,"muted":true`) {
		t.Errorf("bob sees %s", p.Payload)
	}
	carol := connect(t, bus, PeerOf("carol"))
	carol.join(topics.PresenceOnline)
	d := carol.presence("alice")
	if !d.Retained || !strings.HasPrefix(string(d.Payload), `{"online":true,"muted":true`) {
		t.Errorf("carol sees %s", d.Payload)
	}
}

func noOwnPresence(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)
	alice.publish(alice.own(), `{"online":true,"muted":true}`)
	alice.fence(bob)
	alice.nothing("its own presence", func(d topics.Delivery) bool { return isPresence(d) && d.Src == "alice" })
}

func leaves(t *testing.T, bus bridge.Connect, how string) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.publish(alice.own(), how)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s, want an empty presence", p.Payload)
	}
	carol := connect(t, bus, PeerOf("carol"))
	carol.join(topics.PresenceOnline)
	carol.nothing("alice in the snapshot", func(d topics.Delivery) bool { return d.Src == "alice" })
	alice.refused(topics.Forbidden, alice.Publish(alice.to("bob"), []byte(`{"type":"msg"}`)))
	if err := bob.Publish(bob.to("alice"), []byte(`{"type":"msg"}`)); err == nil {
		t.Error("a message to who left was accepted")
	}
}

func leavesAndReturns(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	alice.publish(alice.own(), "")
	alice.in.all()
	alice.join(topics.PresenceOnline)
	alice.wait("bob in the snapshot", func(d topics.Delivery) bool { return d.Retained && d.Src == "bob" })
	alice.wait("hello", func(d topics.Delivery) bool { return d.Type == topics.TypeHello })
	bob.publish(bob.to("alice"), `{"type":"msg"}`)
	alice.message("bob")
}

func device(t *testing.T, bus bridge.Connect, _ time.Duration) {
	id := PeerOf("cam1")
	id.Device = true
	bob, cam := join(t, bus, PeerOf("bob")), join(t, bus, id)
	bob.presence("cam1")
	cam.Close(false)
	if p := bob.presence("cam1"); !strings.HasPrefix(string(p.Payload), `{"online":false`) {
		t.Errorf("bob sees %s", p.Payload)
	}
	carol := connect(t, bus, PeerOf("carol"))
	carol.join(topics.PresenceOnline)
	carol.wait("the camera in the snapshot", func(d topics.Delivery) bool {
		return d.Retained && d.Src == "cam1" && strings.HasPrefix(string(d.Payload), `{"online":false`)
	})
	// Held until it is back, or told: what was accepted arrives.
	err := bob.Publish(bob.to("cam1"), []byte(`{"type":"msg","data":"awake?"}`))
	if err != nil {
		bob.refused(topics.Offline, err)
	}
	back := connect(t, bus, id)
	back.join(topics.PresenceOnline)
	if err != nil {
		bob.publish(bob.to("cam1"), `{"type":"msg","data":"awake?"}`)
	}
	back.message("bob")
	bob.fence(back)
	back.nothing("the message again", func(d topics.Delivery) bool { return d.Src == "bob" && isMessage(d) })
}
