package broker

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Packets by hand, for what no client library would send.

func text(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

func packet(first byte, body ...[]byte) []byte {
	var b []byte
	for _, part := range body {
		b = append(b, part...)
	}
	p := []byte{first}
	for n := len(b); ; {
		digit := byte(n % 128)
		if n /= 128; n > 0 {
			p = append(p, digit|0x80)
			continue
		}
		return append(append(p, digit), b...)
	}
}

func connect3(id, user string) []byte {
	if user == "" {
		return packet(0x10, text("MQTT"), []byte{4, 2, 0, 60}, text(id))
	}
	return packet(0x10, text("MQTT"), []byte{4, 0x82, 0, 60}, text(id), text(user))
}

func connect5(id, user string, properties ...byte) []byte {
	props := append([]byte{byte(len(properties))}, properties...)
	if user == "" {
		return packet(0x10, text("MQTT"), []byte{5, 2, 0, 60}, props, text(id))
	}
	return packet(0x10, text("MQTT"), []byte{5, 0x82, 0, 60}, props, text(id), text(user))
}

func user3(name string) func(*paho3.ClientOptions) {
	return func(o *paho3.ClientOptions) { o.SetUsername(name) }
}

func send(t testing.TB, c net.Conn, p []byte) {
	t.Helper()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next packet, whole.
func receive(t testing.TB, c net.Conn) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	one := make([]byte, 1)
	var head []byte
	next := func() byte {
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatalf("no packet: %v", err)
		}
		head = append(head, one[0])
		return one[0]
	}
	next()
	n, shift := 0, 0
	for {
		b := next()
		n |= int(b&0x7f) << shift
		if shift += 7; b < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatalf("half a packet: %v", err)
	}
	return append(head, body...)
}

// closed waits until the server has closed the connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, bufio.NewReader(c)); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatal("the server does not close the connection")
		}
	}
}

// parsed decodes a packet that the server sent.
func parsed(t *testing.T, version byte, p []byte) packets.Packet {
	t.Helper()
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(p[0]); err != nil {
		t.Fatal(err)
	}
	body := 2
	for i := 1; p[i] >= 0x80; i++ {
		body++
	}
	pk.FixedHeader.Remaining = len(p) - body
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(p[body:])
	case packets.Publish:
		err = pk.PublishDecode(p[body:])
	case packets.Puback:
		err = pk.PubackDecode(p[body:])
	case packets.Pubrec:
		err = pk.PubrecDecode(p[body:])
	case packets.Pubrel:
		err = pk.PubrelDecode(p[body:])
	case packets.Pubcomp:
		err = pk.PubcompDecode(p[body:])
	case packets.Suback:
		err = pk.SubackDecode(p[body:])
	case packets.Disconnect:
		err = pk.DisconnectDecode(p[body:])
	}
	if err != nil {
		t.Fatalf("% x: %v", p, err)
	}
	return pk
}
