package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
	paho5 "github.com/eclipse/paho.golang/paho"
)

// Every refused publish is told: by the reason code of version 5, and by an
// error in the inbox on both versions. It is delivered to nobody, and the
// connection lives.
func TestRefusedPublishIsToldInEveryVersionAndReachesNobody(t *testing.T) {
	s := serve(t, Config{MaxMessage: 2000})
	three := s.client3(t, "three").subscribe(inbox("garage", "three"))
	five := s.client5(t, "five").subscribe(inbox("garage", "five"))
	bob := s.client3(t, "bob").subscribe(inbox("garage", "bob"), "rtc/v1/garage/all/+")
	bob.publish("rtc/v1/garage/peers/bob", `{"online":true,"max":1000}`, 1)
	for _, p := range []*mqttPeer{three, five, bob} {
		p.expect("rtc/v1/garage/to/" + p.name + "/_ hello")
	}
	offer := `{"type":"offer","session":"k1"}`
	for _, c := range []struct {
		topic, payload string // {me} is the sender
		code           topics.Code
		retain         bool
	}{
		{"to/nobody/{me}", offer, 404, false},
		{"to/bob/{me}", `{`, 400, false},
		{"to/bob/{me}", `[]`, 400, false},
		{"to/bob/{me}", `"offer"`, 400, false},
		{"to/bob/{me}", ``, 400, false},
		{"to/bob/{me}", "{\"type\":\"msg\",\"x\":\"\xff\"}", 400, false},
		{"to/bob/{me}", `{"type":"offer"}`, 400, false},
		{"to/bob/{me}", `{"type":"offer","session":"k 1"}`, 400, false},
		{"to/bob/{me}", `{"type":"nonsense"}`, 400, false},
		{"to/bob/{me}", `{"type":"hello"}`, 400, false},
		{"to/bob/{me}", `{"type":"msg","type":"offer","session":"k1"}`, 400, false},
		{"to/bob/{me}", `{"type":"msg","from":"mallory"}`, 400, false},
		{"to/bob/{me}", `{"type":"msg","from":"{me}","fr\u006fm":"mallory"}`, 400, false},
		{"to/bob/{me}", `{"type":"msg","to":"alice"}`, 400, false},
		{"to/bob/{me}", `{"type":"msg","room":"attic"}`, 400, false},
		{"to/bob/{me}", `{"type":"msg","x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, 400, false},
		{"to/bob/{me}", offer, 400, true},
		{"to/bob/bob", offer, 403, false},
		{"to/bob/_", offer, 403, false},
		{"all/bob", `{"type":"msg"}`, 403, false},
		{"wake/bob", `{"type":"wake"}`, 403, false},
		{"peers/bob", `{"online":false}`, 403, true},
		{"peers/{me}", `{"role":"camera"}`, 400, true},
		{"peers/{me}", `{"online":"yes"}`, 400, true},
		{"peers/{me}", `{"online":true,"info":"` + strings.Repeat("x", 5000) + `"}`, 413, true},
		{"to/bob/{me}", `{"type":"offer","session":"k1","sdp":"` + strings.Repeat("x", 1000) + `"}`, 413, false},
		{"to/bob/{me}", `{"type":"offer","session":"k1","sdp":"` + strings.Repeat("x", 2500) + `"}`, 413, false},
		{"all/{me}", `{"type":"msg","data":"` + strings.Repeat("x", 1000) + `"}`, 413, false},
		{"to/bob/{me}", `{"type":"ice","iceServers":[{"urls":["turn:evil.example"]}]}`, 400, false},
		{"to/_/{me}", `{"type":"msg"}`, 400, false},
	} {
		for _, p := range []*mqttPeer{three, five} {
			topic := "rtc/v1/garage/" + strings.ReplaceAll(c.topic, "{me}", p.name)
			payload := strings.ReplaceAll(c.payload, "{me}", p.name)
			for qos := byte(0); qos <= 2; qos++ {
				reason := p.publishAs(topic, payload, qos, c.retain)
				p.expect(fmt.Sprintf(`rtc/v1/garage/to/%s/_ {"type":"error","code":%d,"reason":"%s"`, p.name, c.code, c.code.Reason()))
				if want := c.code.MQTT(); p.v5 != nil && reason != want && !(c.topic == "all/{me}") && (qos == 1 || qos == 2 && want >= 0x80) {
					t.Errorf("%s at QoS %d: reason %#x, want %#x", topic, qos, reason, want)
				}
			}
		}
	}
	bob.quiet("garage")
	three.quiet("garage")
	five.quiet("garage")
}

func TestErrorSaysWhatItIsAbout(t *testing.T) {
	s := serve(t, Config{})
	p := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	p.expect("rtc/v1/garage/to/alice/_ hello")
	p.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k3","sdp":""}`, 1)
	want := `{"type":"error","code":404,"reason":"not-found","message":"there is no cam1 in garage","temporary":false,"session":"k3","to":"cam1","about":"offer"}`
	if g := p.next(); g.payload != want {
		t.Errorf("got  %s\nwant %s", g.payload, want)
	}
}

func TestWhoeverSendsMustBeInTheRoom(t *testing.T) {
	s := serve(t, Config{})
	bob := s.client3(t, "bob").subscribe(inbox("garage", "bob"), "rtc/v1/garage/all/+")
	bob.expect("rtc/v1/garage/to/bob/_ hello")
	five := s.client5(t, "five").subscribe("rtc/v1/garage/all/+")
	for _, topic := range []string{"rtc/v1/garage/to/bob/five", "rtc/v1/garage/all/five", "rtc/v1/attic/all/five"} {
		if reason := five.publish(topic, `{"type":"msg"}`, 1); reason != 0x87 {
			t.Errorf("%s: reason %#x, want 0x87", topic, reason)
		}
	}
	bob.quiet("garage")
}

func TestPublishOutsideTheRoomsIsRefusedByReasonCodeAlone(t *testing.T) {
	s := serve(t, Config{})
	three := s.client3(t, "three").subscribe(inbox("garage", "three"))
	five := s.client5(t, "five").subscribe(inbox("garage", "five"))
	three.expect("rtc/v1/garage/to/three/_ hello")
	five.expect("rtc/v1/garage/to/five/_ hello")
	// mochi 2.7.9 drops a publish to $SYS without an acknowledgement.
	for _, topic := range []string{"home/light", "rtc", "rtc/v2/garage/all/five", "$SYS/broker/uptime", "$share/g/x"} {
		three.publish(topic, "on", 1)
		three.publish(topic, "on", 2)
		if reason := five.publish(topic, "on", 1); reason != 0x87 {
			t.Errorf("%s: reason %#x, want 0x87", topic, reason)
		}
	}
	three.quiet("garage")
	five.quiet("garage")
}

func TestRefusedQoS2PublishLeavesNothingBehind(t *testing.T) {
	threat.Row(t, 23, 0)
	s := serve(t, Config{})
	five := s.client5(t, "five").subscribe(inbox("garage", "five"))
	five.until("rtc/v1/garage/to/five/_ hello")
	for i := range 1100 { // more than the receive maximum that mochi counts down
		if reason := five.publish("rtc/v1/garage/all/bob", `{"type":"msg"}`, 2); reason != 0x87 {
			t.Fatalf("publish %d: reason %#x", i, reason)
		}
		five.expect(`rtc/v1/garage/to/five/_ "code":403`)
	}
}

func TestLimitsAreAnsweredWithBusy(t *testing.T) {
	s := serve(t, Config{MaxSessions: 2, MaxPeers: 2, MaxRooms: 2})
	cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	cam.expect("rtc/v1/garage/to/cam1/_ hello")
	alice.expect("rtc/v1/garage/to/alice/_ hello")

	for i, want := range []byte{0, 0, 0x97} {
		if got := alice.publish("rtc/v1/garage/to/cam1/alice", fmt.Sprintf(`{"type":"offer","session":"k%d"}`, i), 1); got != want {
			t.Errorf("session %d: reason %#x, want %#x", i, got, want)
		}
	}
	alice.expect(`rtc/v1/garage/to/alice/_ "code":486`)
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k1"}`, 1) // renegotiates
	cam.publish("rtc/v1/garage/to/alice/cam1", `{"type":"bye","session":"k0"}`, 1)
	if got := alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k9"}`, 1); got != 0 {
		t.Errorf("after a bye there is room for a session, but the reason is %#x", got)
	}

	late := s.client5(t, "late")
	if code := late.trySubscribe(inbox("garage", "late"), 1); code != 0x97 {
		t.Errorf("third peer of the room: SUBACK %#x, want 0x97", code)
	}
	alice.subscribe("rtc/v1/attic/peers/+")
	if code := alice.trySubscribe("rtc/v1/cellar/peers/+", 1); code != 0x97 {
		t.Errorf("third room of the connection: SUBACK %#x, want 0x97", code)
	}
}

func TestReceiverMaximumPacketSizeIsToldToTheSender(t *testing.T) {
	s := serve(t, Config{})
	small := s.client5(t, "small", func(c *paho5.Connect) {
		size := uint32(500)
		c.Properties = &paho5.ConnectProperties{MaximumPacketSize: &size}
	}).subscribe(inbox("garage", "small"))
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	alice.expect("rtc/v1/garage/to/alice/_ hello")
	if reason := alice.publish("rtc/v1/garage/to/small/alice", `{"type":"msg","data":"`+strings.Repeat("x", 600)+`"}`, 1); reason != 0x95 {
		t.Errorf("reason %#x, want 0x95", reason)
	}
	alice.expect(`rtc/v1/garage/to/alice/_ "code":413`)
	alice.publish("rtc/v1/garage/to/small/alice", `{"type":"msg","data":"fits"}`, 1)
	small.expect("rtc/v1/garage/to/small/_ hello", "rtc/v1/garage/to/small/alice fits")
}

func TestReceiverMaximumPacketSizeIsToldToTheSenderThoughTheMessageWouldHaveWaited(t *testing.T) {
	big := `{"type":"msg","data":"` + strings.Repeat("x", 2000) + `"}`
	const to = "rtc/v1/garage/to/cam1/alice"
	small := []byte{0x27, 0, 0, 4, 0} // maximum packet size 1024
	t.Run("for the window", func(t *testing.T) {
		s := serve(t, Config{})
		conn := rawCamera(t, s, append(small, 0x21, 0, 1)...) // receive maximum 1
		alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
		alice.expect("rtc/v1/garage/to/alice/_ hello")
		for _, c := range []struct {
			payload string
			reason  byte
		}{{`{"type":"msg","data":1}`, 0}, {big, 0x95}, {`{"type":"msg","data":2}`, 0}} {
			if reason := alice.publish(to, c.payload, 1); reason != c.reason {
				t.Errorf("reason %#x, want %#x", reason, c.reason)
			}
		}
		alice.expect(`rtc/v1/garage/to/alice/_ "code":413`)
		for n := range 2 {
			pk := parsed(t, 5, receive(t, conn))
			if want := fmt.Sprintf(`{"type":"msg","data":%d}`, n+1); string(pk.Payload) != want {
				t.Errorf("got %s, want %s", pk.Payload, want)
			}
			send(t, conn, []byte{0x40, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
		}
	})
	t.Run("for its receiver to come back", func(t *testing.T) {
		s := serve(t, Config{Grace: long})
		_ = rawCamera(t, s).Close()
		waitFor(t, "the loss of cam1 to be noticed", func() bool { return s.connections() == 0 })
		alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
		alice.expect("rtc/v1/garage/to/alice/_ hello")
		if reason := alice.publish(to, big, 1); reason != 0 {
			t.Errorf("reason %#x while cam1 is expected back", reason)
		}
		rawCamera(t, s, small...)
		alice.expect(`rtc/v1/garage/to/alice/_ "code":413`)
	})
}
