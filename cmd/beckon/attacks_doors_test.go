package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// canaries are two peers who have done nothing wrong: one by MQTT, one by JSON.
type canaries struct {
	mqtt, json *caller
	sung       atomic.Int64
}

// heard is how many songs arrived.
func (c *canaries) heard() int64 { return c.sung.Load() }

func startCanaries(t *testing.T, s *site) *canaries {
	t.Helper()
	c := &canaries{mqtt: s.caller(t, mqtt3TCP, "canary", "garage"), json: s.caller(t, jsonWS, "bird", "garage")}
	c.mqtt.sees("bird")
	c.json.sees("canary")
	return c
}

// sing demands that everything they say arrives, and nothing else.
func (c *canaries) sing() {
	c.mqtt.t.Helper()
	song := fmt.Sprintf(`{"type":"msg","data":%d}`, c.sung.Load()+1)
	c.mqtt.send(c.json.name, song)
	c.json.hears(c.mqtt.name, song)
	c.json.send(c.mqtt.name, song)
	c.mqtt.hears(c.json.name, song)
	c.sung.Add(1)
}

// connectAs is a CONNECT with a last will, if topic is not "".
func connectAs(version byte, id, user, topic, payload string) string {
	flags, will, name := byte(0x02), "", ""
	if topic != "" {
		flags |= 0x24 // will, retained
		if version == 5 {
			will = "\x00"
		}
		will += text(topic) + text(payload)
	}
	if user != "" {
		flags |= 0x80
		name = text(user)
	}
	properties := ""
	if version == 5 {
		properties = "\x00"
	}
	return packet(0x10, text("MQTT"), string([]byte{version, flags, 0, 60}), properties, text(id), will, name)
}

// everyTransport runs test over each transport of MQTT, in both versions, and
// lets the canaries sing after it.
func everyTransport(t *testing.T, test func(t *testing.T, s *site, version byte, open func() net.Conn)) {
	s := startSite(t)
	c := startCanaries(t, s)
	for _, scheme := range []string{"tcp", "tls", "ws", "wss"} {
		for _, version := range []byte{4, 5} {
			name := fmt.Sprintf("version %d by %s", version, scheme)
			t.Run(name, func(t *testing.T) {
				test(t, s, version, func() net.Conn {
					t.Helper()
					conn, err := s.open(scheme)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					conn.SetDeadline(time.Now().Add(atMost))
					return conn
				})
			})
			c.sing()
		}
	}
	c.mqtt.quiet()
	c.json.quiet()
}

// isClosed waits until the server has closed conn.
func isClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Error("the server does not close the connection")
	}
}

// refusal says CONNECT and returns the code of the CONNACK that refuses.
func refusal(t *testing.T, conn net.Conn, connect string) byte {
	t.Helper()
	io.WriteString(conn, connect)
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil || head[0] != 0x20 {
		t.Fatalf("CONNACK % x, %v", head, err)
	}
	return head[3]
}

func TestTruncatedSubscribeHurtsNobodyElse(t *testing.T) {
	threat.Row(t, 13, threat.MQTT)
	everyTransport(t, func(t *testing.T, _ *site, version byte, open func() net.Conn) {
		conn := open()
		mqttConnect(t, conn, connectAs(version, "mallory", "", "", ""))
		io.WriteString(conn, "\x82\x06\x00\x01\x00\x00\x01\x61")
		isClosed(t, conn)
	})
}

func TestSilentConnectionsHurtNobodyElse(t *testing.T) {
	threat.Row(t, 15, threat.MQTT)
	everyTransport(t, func(t *testing.T, s *site, version byte, open func() net.Conn) {
		connect := connectAs(version, "mallory", "", "", "")
		dial(t, s.MQTT)                     // not a byte
		open()                              // nothing after the handshakes
		io.WriteString(open(), connect[:9]) // half a CONNECT
		mqttConnect(t, open(), connect)     // nothing after the CONNECT
		half := open()
		mqttConnect(t, half, connectAs(version, "half", "", "", ""))
		io.WriteString(half, "\x82\x20") // the header of a SUBSCRIBE
	})
}

func TestForeignLastWillIsRefusedAndNeverPublished(t *testing.T) {
	threat.Row(t, 5, threat.MQTT)
	everyTransport(t, func(t *testing.T, _ *site, version byte, open func() net.Conn) {
		want := map[byte]byte{4: 0x05, 5: 0x87}[version]
		for topic, payload := range map[string]string{
			"rtc/v1/garage/peers/canary":   `{"online":false}`,
			"rtc/v1/garage/to/bird/canary": `{"type":"bye","session":"s"}`,
			"rtc/v1/garage/all/canary":     `{"type":"msg"}`,
			"rtc/v1/garage/to/bird/_":      `{"type":"error"}`,
			"elsewhere":                    "x",
			"$SYS/x":                       "x",
		} {
			conn := open()
			if code := refusal(t, conn, connectAs(version, "mallory", "", topic, payload)); code != want {
				t.Errorf("will at %s: CONNACK %#x, want %#x", topic, code, want)
			}
			isClosed(t, conn)
		}
	})
}

func TestClientIDOfSomeoneElseGivesNoPowerOverThem(t *testing.T) {
	threat.Row(t, 2, threat.MQTT)
	threat.Row(t, 4, threat.MQTT)
	everyTransport(t, func(t *testing.T, _ *site, version byte, open func() net.Conn) {
		conn := open()
		mqttConnect(t, conn, connectAs(version, "canary", "mallory", "", ""))
		properties := ""
		if version == 5 {
			properties = "\x00"
		}
		io.WriteString(conn, packet(0x32, text("rtc/v1/garage/to/bird/canary"), "\x00\x01", properties, `{"type":"msg"}`))
		io.WriteString(conn, packet(0x33, text("rtc/v1/garage/peers/canary"), "\x00\x02", properties))
		io.WriteString(conn, packet(0x82, "\x00\x03", properties, text("rtc/v1/garage/to/canary/+"), "\x01"))
		io.WriteString(conn, packet(0xc0)) // PINGREQ: whose answer is the last
		var got []byte
		for !strings.HasSuffix(string(got), "\xd0\x00") {
			b := make([]byte, 256)
			n, err := conn.Read(b)
			if err != nil {
				t.Fatalf("after % x: %v", got, err)
			}
			got = append(got, b[:n]...)
		}
		want := []string{"\x40\x02\x00\x01", "\x40\x02\x00\x02", "\x90\x03\x00\x03\x80"}
		if version == 5 {
			want = []string{"\x00\x01\x87", "\x00\x02\x87"}
		}
		for _, w := range want {
			if !strings.Contains(string(got), w) {
				t.Errorf("% x is not among the answers\n% x", w, got)
			}
		}
	})
}

func TestGarbageHurtsNobodyElse(t *testing.T) {
	threat.Row(t, 13, threat.MQTT)
	random := rand.NewChaCha8([32]byte{7})
	everyTransport(t, func(t *testing.T, _ *site, version byte, open func() net.Conn) {
		for n := range 20 {
			garbage := make([]byte, 1<<(n/2))
			random.Read(garbage)
			conn := open()
			if n%2 == 1 {
				mqttConnect(t, conn, connectAs(version, "mallory", "", "", ""))
			}
			conn.Write(garbage)
			conn.Close()
		}
		for name, bytes := range map[string]string{
			"a second CONNECT":     connectAs(version, "mallory", "", "", ""),
			"a CONNACK":            "\x20\x02\x00\x00",
			"type 0":               "\x00\x00",
			"length of five bytes": "\x30\xff\xff\xff\xff\xff",
			"the longest packet":   "\x30\xff\xff\xff\x7f",
			"topic with a NUL":     packet(0x30, text("a\x00b")),
			"no topic":             "\x30\x00",
			"wildcard":             packet(0x30, text("rtc/v1/garage/peers/+")),
			"QoS 3":                packet(0x36, text("a"), "\x00\x01"),
		} {
			conn := open()
			mqttConnect(t, conn, connectAs(version, "mallory", "", "", ""))
			io.WriteString(conn, bytes)
			if name != "wildcard" { // may be refused in words
				isClosed(t, conn)
			}
		}
	})
}

func TestBadFramesHurtNobodyElse(t *testing.T) {
	threat.Row(t, 12, threat.JSON)
	s := startSite(t)
	c := startCanaries(t, s)
	long := func(n int) string { return `{"type":"msg","to":"bird","data":"` + strings.Repeat("x", n) + `"}` }
	for _, at := range []entrance{jsonWS, jsonWSS} {
		write := func(c *caller, kind int, frame string) {
			// An error is that the server has closed, which the reader sees.
			_ = c.line.(*lineJSON).ws.WriteMessage(kind, []byte(frame))
		}
		tests := 0
		mallory := func() string { // another each time: what one was told of and did not prove to have, her next connection hears
			tests++
			return fmt.Sprint("mallory", tests, at.scheme)
		}
		for name, test := range map[string]func(t *testing.T){
			"before the join": func(t *testing.T) {
				m := s.connect(t, at, mallory())
				for _, frame := range []string{`{"type":"msg","to":"bird"}`, `{"type":"leave"}`, `{"type":"presence","presence":{}}`, `{"type":"hello"}`} {
					write(m, websocket.TextMessage, frame)
					m.isTold(403)
				}
				write(m, websocket.TextMessage, `not JSON`)
				m.isTold(400)
				m.join("attic")
				m.quiet()
			},
			"too long before the join": func(t *testing.T) {
				m := s.connect(t, at, mallory())
				write(m, websocket.TextMessage, long(9<<10))
				m.isTold(413)
				m.isEnded("", "4510")
			},
			"not JSON": func(t *testing.T) {
				m := s.caller(t, at, mallory(), "attic")
				for _, frame := range []string{"", "hello", "[1]", "null", `{"type":`, `{"type":"msg"}{}`, `{"type":1}`, `{"to":"bird"}`, strings.Repeat("[", 9000), `{"type":"msg","data":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + "}"} {
					write(m, websocket.TextMessage, frame)
					m.isTold(400)
				}
				m.quiet()
			},
			"speaking as another": func(t *testing.T) {
				m := s.caller(t, at, mallory(), "attic")
				write(m, websocket.TextMessage, `{"type":"msg","room":"attic","to":"bird","from":"canary"}`)
				m.isTold(400)
				write(m, websocket.TextMessage, `{"type":"msg","room":"garage","to":"bird"}`)
				m.isTold(403)
				write(m, websocket.TextMessage, `{"type":"join","room":"garage","peer":"canary"}`)
				m.isTold(403)
				m.quiet()
			},
			"binary": func(t *testing.T) {
				m := s.caller(t, at, mallory(), "attic")
				write(m, websocket.BinaryMessage, `{"type":"ping"}`)
				m.isEnded("", "4501")
			},
			"too long": func(t *testing.T) {
				m := s.caller(t, at, mallory(), "attic")
				write(m, websocket.TextMessage, long(100<<10))
				m.isTold(413)
				m.quiet()
				write(m, websocket.TextMessage, long(300<<10))
				m.isEnded("", "4501")
			},
			"silent": func(t *testing.T) { s.connect(t, at, mallory()) },
		} {
			t.Run(name+" by "+at.scheme, test)
			c.sing()
		}
	}
	c.mqtt.quiet()
	c.json.quiet()
}
