package broker

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A message of MQTT 5 that expires before its delivery begins is not delivered
// [MQTT-3.3.2-5], and in the rooms its sender is told.

// pipe connects a client by hand, on fake time, whose connection Close ends.
func pipe(t *testing.T, b *Broker, connect []byte) net.Conn {
	t.Helper()
	server, conn := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.ServeConn(server)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	send(t, conn, connect)
	receive(t, conn)
	return conn
}

// listen subscribes to a filter at QoS 1, and takes the hello of the peer's inbox
// in the garage, if it is that.
func listen(t *testing.T, conn net.Conn, filter string) {
	t.Helper()
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(filter), []byte{1}))
	receive(t, conn)
	if strings.Contains(filter, "/to/") {
		hello := parsed(t, 5, receive(t, conn))
		send(t, conn, puback(hello))
	}
}

func puback(pk packets.Packet) []byte {
	return binary.BigEndian.AppendUint16([]byte{0x40, 2}, pk.PacketID)
}

// expiring is a PUBLISH of QoS 1, which expires after so many seconds unless they
// are 0.
func expiring(seconds uint32, first byte, topic, payload string) []byte {
	properties := []byte{0}
	if seconds > 0 {
		properties = binary.BigEndian.AppendUint32([]byte{5, packets.PropMessageExpiryInterval}, seconds)
	}
	return packet(first, text(topic), []byte{0, 9}, properties, []byte(payload))
}

// told is the payload of the next message, which is acknowledged.
func told(t *testing.T, conn net.Conn) string {
	t.Helper()
	pk := parsed(t, 5, receive(t, conn))
	send(t, conn, puback(pk))
	return string(pk.Payload)
}

func TestAMessageThatExpiresBehindTheWindowIsToldAndWhatFollowsComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		b.Authenticate = hub
		cam := pipe(t, b, connect5("c", "cam1", 0x21, 0, 1)) // receive maximum 1
		listen(t, cam, inbox("garage", "cam1"))
		alice := pipe(t, b, connect5("a", "alice"))
		listen(t, alice, inbox("garage", "alice"))
		const to = "rtc/v1/garage/to/cam1/alice"
		for _, p := range [][]byte{
			expiring(0, 0x32, to, `{"type":"x-first"}`),
			expiring(2, 0x32, to, `{"type":"offer","session":"k3"}`),
			expiring(60, 0x32, to, `{"type":"x-last"}`),
		} {
			send(t, alice, p)
			if ack := parsed(t, 5, receive(t, alice)); ack.ReasonCode != 0 {
				t.Errorf("reason %#x", ack.ReasonCode)
			}
		}
		first := parsed(t, 5, receive(t, cam))
		time.Sleep(2 * time.Second)
		send(t, cam, puback(first))
		last := parsed(t, 5, receive(t, cam))
		if string(last.Payload) != `{"type":"x-last"}` || last.Properties.MessageExpiryInterval != 58 {
			t.Errorf("got %s, which expires in %d s", last.Payload, last.Properties.MessageExpiryInterval)
		}
		if got := told(t, alice); !strings.Contains(got, `"code":408`) || !strings.Contains(got, `"session":"k3"`) {
			t.Errorf("alice was told %s", got)
		}
		r := b.enter("garage", false)
		defer r.leave()
		if n := len(r.peers["alice"].calls) + len(r.peers["cam1"].calls); n > 0 {
			t.Error("the session is open, and never began")
		}
	})
}

func TestAMessageThatExpiresBehindAWindowThatStaysFullIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		b.Authenticate = hub
		cam := pipe(t, b, connect5("c", "cam1", 0x21, 0, 1)) // receive maximum 1
		listen(t, cam, inbox("garage", "cam1"))
		alice := pipe(t, b, connect5("a", "alice"))
		listen(t, alice, inbox("garage", "alice"))
		begin := time.Now()
		for _, seconds := range []uint32{0, 0, 7, 3} {
			send(t, alice, expiring(seconds, 0x32, "rtc/v1/garage/to/cam1/alice", `{"type":"x-1"}`))
			receive(t, alice) // PUBACK
		}
		receive(t, cam) // and no PUBACK
		for _, after := range []time.Duration{3 * time.Second, 7 * time.Second} {
			if got, took := told(t, alice), time.Since(begin); !strings.Contains(got, `"code":408`) || took != after {
				t.Errorf("after %v, not %v, alice was told %s", took, after, got)
			}
		}
	})
}

func TestAMessageThatExpiresBeforeItsReceiverIsBackIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Grace: long})
		b.Authenticate = hub
		cam := pipe(t, b, connect5("c", "cam1"))
		listen(t, cam, inbox("garage", "cam1"))
		alice := pipe(t, b, connect5("a", "alice"))
		listen(t, alice, inbox("garage", "alice"))
		_ = cam.Close()
		synctest.Wait()
		begin := time.Now()
		send(t, alice, expiring(2, 0x32, "rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`))
		receive(t, alice) // PUBACK
		if got, took := told(t, alice), time.Since(begin); !strings.Contains(got, `"code":480`) || took != 2*time.Second {
			t.Errorf("after %v alice was told %s", took, got)
		}
		b.open(t, peerOf("cam1", "garage")).join("garage").expect("+alice hello") // by another door
	})
}

func TestARetainedMessageThatExpiredIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		b.Authenticate = hub
		cam := pipe(t, b, connect5("c", "cam1"))
		for topic, seconds := range map[string]uint32{"home/cam1/motion": 2, "home/cam1/door": 60, "home/cam1/name": 0} {
			send(t, cam, expiring(seconds, 0x33, topic, topic))
			receive(t, cam) // PUBACK
		}
		time.Sleep(2 * time.Second)
		h := pipe(t, b, connect5("h", "hub"))
		listen(t, h, "home/+/+")
		left := map[string]uint32{}
		for range 2 {
			pk := parsed(t, 5, receive(t, h))
			send(t, h, puback(pk))
			left[pk.TopicName] = pk.Properties.MessageExpiryInterval
		}
		if len(left) != 2 || left["home/cam1/door"] != 58 || left["home/cam1/name"] != 0 {
			t.Errorf("got %v", left)
		}
		if n := len(b.outside.retained.messages); n != 2 {
			t.Errorf("%d are kept", n)
		}
	})
}
