package broker

import (
	"context"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
	paho5 "github.com/eclipse/paho.golang/paho"
)

func hub(_ context.Context, c topics.Credentials) (topics.Identity, error) {
	id := topics.Identity{Name: c.Username, Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}}}
	if c.Username == "hub" {
		id.Publish, id.Subscribe = []string{"home/#"}, []string{"home/#"}
	} else {
		id.Publish, id.Subscribe = []string{"home/" + c.Username + "/+"}, []string{"home/" + c.Username + "/set"}
	}
	return id, nil
}

func TestTopicsOutsideTheRoomsAreOrdinaryMQTTWhereGranted(t *testing.T) {
	s := serve(t, Config{Authenticate: hub})
	cam := s.client5(t, "c", as("cam1")).subscribe("home/cam1/set")
	three := s.client3(t, "h", user3("hub")).subscribe("home/+/motion", "home/#")
	for qos := byte(0); qos <= 2; qos++ {
		if code := cam.publish("home/cam1/motion", "on", qos); code != 0 {
			t.Fatalf("reason %#x", code)
		}
		if g := three.next(); g.String() != "home/cam1/motion on" || g.qos != min(qos, 1) || g.retained {
			t.Errorf("got %v at QoS %d", g, g.qos)
		}
	}
	three.publish("home/cam1/set", "quiet", 1)
	cam.expect("home/cam1/set quiet")
	three.expect("home/cam1/set quiet") // MQTT echoes, outside the rooms

	for _, topic := range []string{"home/cam2/motion", "home/cam1/a/b", "office/x", "$SYS/x"} {
		if code := cam.publish(topic, "on", 1); code != 0x87 {
			t.Errorf("%s: reason %#x, want 0x87", topic, code)
		}
	}
	for _, f := range []string{"#", "home/#", "home/+/set", "home/cam2/set", "$share/g/home/#", "$SYS/#", "+/cam1/set"} {
		if code := cam.trySubscribe(f, 1); code != 0x87 {
			t.Errorf("%s: SUBACK %#x, want 0x87", f, code)
		}
	}
}

func TestRetainedMessagesOutsideTheRoomsWaitForSubscribers(t *testing.T) {
	s := serve(t, Config{Authenticate: hub})
	cam := s.client5(t, "c", as("cam1"))
	cam.publishAs("home/cam1/battery", "80", 1, true)
	cam.publishAs("home/cam1/battery", "79", 1, true)
	cam.publishAs("home/cam1/name", "x", 1, true)
	cam.publishAs("home/cam1/name", "", 1, true) // removes it
	h := s.client5(t, "h", as("hub")).subscribe("home/+/+")
	if g := h.next(); g.String() != "home/cam1/battery 79" || !g.retained {
		t.Errorf("got %v, retained %v", g, g.retained)
	}
	cam.publishAs("home/cam1/battery", "78", 1, true)
	if g := h.next(); g.String() != "home/cam1/battery 78" || g.retained {
		t.Errorf("got %v, retained %v", g, g.retained)
	}
}

func TestRoomsAreNotSeenFromOutside(t *testing.T) {
	s := serve(t, Config{Authenticate: func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
		id, err := hub(ctx, c)
		id.Publish, id.Subscribe = []string{"#"}, []string{"#"}
		return id, err
	}})
	h := s.client5(t, "h", as("hub")).subscribe("#")
	s.client5(t, "c", as("cam1")).subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	h.publish("home/x", "done", 1)
	h.expect("home/x done")
}

func TestLastWillOutsideTheRoomsIsPublishedWhenTheConnectionIsLost(t *testing.T) {
	s := serve(t, Config{Authenticate: hub, Grace: long})
	h := s.client5(t, "h", as("hub")).subscribe("home/+/+")
	dying := func(topic string) func(*paho5.Connect) {
		delay := uint32(3600)
		return func(c *paho5.Connect) {
			as("cam1")(c)
			c.WillMessage = &paho5.WillMessage{Topic: topic, Payload: []byte("offline"), QoS: 1, Retain: true}
			c.WillProperties = &paho5.WillProperties{ContentType: "text/plain", WillDelayInterval: &delay}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := &paho5.Connect{ClientID: "c", KeepAlive: 30, CleanStart: true}
	dying("home/hub/status")(c)
	if ack, err := paho5.NewClient(paho5.ClientConfig{Conn: s.dial(t)}).Connect(ctx, c); err == nil || ack.ReasonCode != 0x87 {
		t.Errorf("a will that is not granted: CONNACK %+v, want 0x87", ack)
	}

	s.client5(t, "c", dying("home/cam1/status")).leave()
	s.client5(t, "c", dying("home/cam1/status")).cut()
	if g := h.next(); g.String() != "home/cam1/status offline" || g.retained {
		t.Errorf("got %v, retained %v", g, g.retained)
	}
	if g := s.client5(t, "h", as("hub")).subscribe("home/cam1/status").next(); g.payload != "offline" || !g.retained {
		t.Errorf("got %v, retained %v", g, g.retained)
	}
	waitFor(t, "the lost ones to be forgotten", func() bool { return s.connections() == 2 })

	// One that is back is not said to be gone when its old connection ends.
	old := s.client5(t, "c", dying("home/cam1/status"))
	back := s.client5(t, "c", dying("home/cam1/status"))
	back.publishAs("home/cam1/status", "online", 1, true)
	old.cut()
	waitFor(t, "the old one to be forgotten", func() bool { return s.connections() == 3 })
	back.publishAs("home/cam1/motion", "on", 1, false)
	h.expect("home/cam1/status online", "home/cam1/motion on")
	back.leave()
	waitFor(t, "the new one to be forgotten", func() bool { return s.connections() == 2 })
	if n := len(s.outside.wills); n > 0 {
		t.Errorf("%d last wills are kept", n)
	}
}
