package bustest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func nobody(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	e := alice.refused(topics.NotFound, alice.Publish(alice.to("nobody"), []byte(`{"type":"offer","session":"k3","sdp":""}`)))
	if e.To != "nobody" || e.Session != "k3" || e.About != "offer" || e.Message == "" {
		t.Errorf("the error says %+v", e)
	}
	alice.fence(bob)
	alice.nothing("the error again", func(d topics.Delivery) bool { return d.Type == topics.TypeError })
}

func outsiders(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	msg := []byte(`{"type":"msg"}`)
	alice.refused(topics.Forbidden, alice.Publish(alice.to("bob"), msg))
	alice.refused(topics.Forbidden, alice.Publish(alice.toAll(), msg))

	mallory := connect(t, bus, topics.Identity{Name: "mallory", Grants: []topics.Grant{{Room: "attic", Role: topics.Peer}}})
	mallory.refused(topics.Forbidden, mallory.Publish(mallory.own(), []byte(topics.PresenceOnline)))
	mallory.refused(topics.Forbidden, mallory.Publish(mallory.to("bob"), msg))
	mallory.refused(topics.Forbidden, mallory.Subscribe(topics.DefaultRoot.Inbox(room, "mallory")))
	bob.nothing("a word of them", anything)
}

func impostors(t *testing.T, bus bridge.Connect) {
	bob, mallory := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("mallory"))
	alice := join(t, bus, PeerOf("alice"))
	bob.in.all()
	for _, a := range []topics.Address{alice.own(), alice.to("bob"), alice.toAll(), {Room: room, Kind: topics.Wake, Dst: "bob"},
		{Room: room, Kind: topics.Direct, Dst: "bob", Src: topics.Server}} {
		mallory.refused(topics.Forbidden, mallory.Publish(a, []byte(`{"type":"msg","online":true}`)))
	}
	mallory.refused(topics.BadRequest, mallory.Publish(mallory.to("bob"), []byte(`{"type":"msg","from":"alice"}`)))
	mallory.refused(topics.BadRequest, mallory.Publish(mallory.to("bob"), []byte(`{"type":"msg","to":"alice"}`)))
	bob.fence(mallory)
	bob.nothing("a forgery", anything)
}

func tooCurious(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	mallory := join(t, bus, topics.Identity{Name: "mallory", Grants: []topics.Grant{{Room: room, Role: topics.Peer}}})
	for _, f := range []string{"rtc/v1/garage/#", "rtc/v1/garage/to/bob/+", "rtc/v1/garage/to/+/+", "rtc/v1/+/peers/+", "$share/g/rtc/v1/garage/to/bob/+"} {
		mallory.refused(topics.Forbidden, mallory.Subscribe(f))
	}
	mallory.in.all()
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
	mallory.fence(alice)
	mallory.nothing("a message to bob", isMessage)
}

func viewer(t *testing.T, bus bridge.Connect) {
	cam, other := join(t, bus, PeerOf("cam1")), join(t, bus, PeerOf("cam2"))
	guest := connect(t, bus, topics.Identity{Name: "guest", Grants: []topics.Grant{{Room: room, Role: topics.Viewer, Of: "cam1"}}})
	guest.join(topics.PresenceOnline)
	guest.presence("cam1")
	guest.nothing("cam2", func(d topics.Delivery) bool { return d.Src == "cam2" })
	guest.publish(guest.to("cam1"), `{"type":"start","session":"g1"}`)
	cam.message("guest")
	cam.publish(cam.to("guest"), `{"type":"offer","session":"g1","sdp":""}`)
	guest.message("cam1")
	guest.refused(topics.Forbidden, guest.Publish(guest.to("cam2"), []byte(`{"type":"msg"}`)))
	guest.refused(topics.Forbidden, guest.Publish(guest.toAll(), []byte(`{"type":"msg"}`)))
	other.nothing("a word of the guest", isMessage)
}

func malformed(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	for _, payload := range []string{
		``, `[]`, `nonsense`, `{"type":"msg"`, `{"type":"msg"} {}`, `{}`, `{"type":5}`, `{"type":"unheard-of"}`,
		`{"type":"offer","sdp":""}`, `{"type":"offer","session":"no spaces","sdp":""}`, `{"type":"msg","type":"msg"}`,
		`{"type":"hello"}`, `{"type":"error","code":404}`, "{\"type\":\"msg\",\"data\":\"\xff\"}",
		`{"type":"msg","data":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`,
	} {
		alice.refused(topics.BadRequest, alice.Publish(alice.to("bob"), []byte(payload)))
		said, _ := topics.Read([]byte(payload), nil)
		alice.refused(topics.BadRequest, alice.Say(alice.to("bob"), said))
	}
	alice.refused(topics.BadRequest, alice.Say(alice.to("bob"), topics.Reading{}))
	alice.refused(topics.BadRequest, alice.Publish(alice.own(), []byte(`{"name":"no online"}`)))
	bob.in.all()
	bob.fence(alice)
	bob.nothing("something malformed", anything)
}

func tooLong(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)
	var hello topics.Hello
	d := alice.wait("hello", func(d topics.Delivery) bool { return d.Type == topics.TypeHello })
	if err := json.Unmarshal(d.Payload, &hello); err != nil {
		t.Fatal(err)
	}
	of := func(size int) []byte {
		const rest = len(`{"type":"msg","data":""}`)
		return fmt.Appendf(nil, `{"type":"msg","data":"%s"}`, strings.Repeat("x", size-rest))
	}
	alice.publish(alice.to("bob"), string(of(hello.Max)))
	alice.refused(topics.TooLarge, alice.Publish(alice.to("bob"), of(hello.Max+1)))

	bob.publish(bob.own(), `{"online":true,"max":4096}`)
	alice.publish(alice.to("bob"), string(of(4096)))
	alice.refused(topics.TooLarge, alice.Publish(alice.to("bob"), of(4097)))

	long := []byte(`{"online":true,"x":"` + strings.Repeat("x", topics.MaxPresence) + `"}`)
	alice.refused(topics.TooLarge, alice.Publish(alice.own(), long))
}

func fullInbox(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.in.mu.Lock()
	bob.in.refuse = errors.New("full")
	bob.in.mu.Unlock()
	alice.refused(topics.Busy, alice.Publish(alice.to("bob"), []byte(`{"type":"msg"}`)))
	bob.in.mu.Lock()
	bob.in.refuse = nil
	bob.in.mu.Unlock()
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
}

func endingInbox(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	bob.in.mu.Lock()
	bob.in.refuse = topics.Errorf(topics.Offline, "ending")
	bob.in.mu.Unlock()
	alice.publish(alice.to("bob"), `{"type":"msg","data":1}`)
	bob.Close(false)
	next := connect(t, bus, PeerOf("bob"))
	next.join(topics.PresenceOnline)
	next.message("alice")
}
