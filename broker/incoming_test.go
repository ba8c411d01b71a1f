package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// An answer that is lost would be waited for by a client whose connection lives.
func TestAnAnswerThatFindsNoRoomEndsTheConnection(t *testing.T) {
	publish := func(qos byte, topic string) []byte {
		return packet(0x30|qos<<1, text(topic), []byte{0, 7, 0}, []byte(`{"type":"msg"}`))
	}
	for what, said := range map[string][]byte{
		"PINGRESP":              {0xC0, 0},
		"PUBACK":                publish(1, "home/cam1/motion"),
		"PUBACK 0x10":           publish(1, "rtc/v1/garage/to/nobody/cam1"),
		"PUBACK with words":     publish(1, "home/cam2/motion"),
		"PUBREC":                publish(2, "home/cam1/motion"),
		"PUBREL":                {0x50, 2, 0, 2},
		"PUBREL, of no message": {0x50, 2, 0, 9},
		"SUBACK":                packet(0x82, []byte{0, 1, 0}, text("home/cam1/set"), []byte{0}),
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{Queue: 4 << 10, Write: -1})
				b.Authenticate = hub
				conn := pipe(t, b, connect5("c", "cam1"))
				send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{2}))
				receive(t, conn)
				receive(t, conn) // hello, at QoS 1
				send(t, conn, []byte{0x40, 2, 0, 1})
				if what == "PUBREL" {
					m := &message{topic: "rtc/v1/garage/to/cam1/x", qos: 2}
					m.Payload = []byte("{}")
					if err := b.everyone()[0].deliver(m, reception{qos: 2}); err != nil {
						t.Fatal(err)
					}
					receive(t, conn)
				}
				synctest.Wait() // until what was read counts as written
				for b.everyone()[0].Send([]byte{packets.Pingresp << 4, 0}, nil) == nil {
					continue // nobody reads
				}
				send(t, conn, said)
				time.Sleep(2 * time.Second) // what was accepted may leave meanwhile
				synctest.Wait()
				if n := len(b.everyone()); n > 0 {
					t.Error("the connection lives")
				}
			})
		})
	}
}

func TestARefusalComesThoughItsWordsAreTooLongForTheClient(t *testing.T) {
	s := serve(t, Config{Authenticate: hub})
	for largest := byte(40); largest < 140; largest++ {
		conn := s.dial(t)
		send(t, conn, connect5("c", "cam1", 0x27, 0, 0, 0, largest))
		receive(t, conn)
		send(t, conn, packet(0x32, text("home/cam2/motion"), []byte{0, 7, 0}, []byte("on")))
		ack := receive(t, conn)
		if len(ack) > int(largest) || parsed(t, 5, ack).ReasonCode != 0x87 {
			t.Errorf("of at most %d bytes: % x", largest, ack)
		}
		_ = conn.Close()
	}
}
