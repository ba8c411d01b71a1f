package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// models are good packets of every type, which are then mutated. None reaches
// the room of the canaries.
func models(version byte) []string {
	none := ""
	if version == 5 {
		none = "\x00"
	}
	own, inbox := "rtc/v1/attic/peers/mallory", "rtc/v1/attic/to/mallory/+"
	all := []string{
		connectAs(version, "mallory", "", "", ""),
		connectAs(version, "mallory", "mallory", own, `{"online":false}`),
		mqttPacket(0x30, mqttText("rtc/v1/attic/all/mallory"), none, `{"type":"msg"}`),
		mqttPacket(0x32, mqttText("rtc/v1/attic/to/mallory/mallory"), "\x00\x07", none, `{"type":"offer","session":"s","sdp":""}`),
		mqttPacket(0x34, mqttText("rtc/v1/attic/to/nobody/mallory"), "\x00\x08", none, `{"type":"msg"}`),
		mqttPacket(0x33, mqttText(own), "\x00\x09", none, `{"online":true}`),
		mqttPacket(0x62, "\x00\x08"),
		mqttPacket(0x40, "\x00\x01"), mqttPacket(0x50, "\x00\x01"), mqttPacket(0x70, "\x00\x01"),
		mqttPacket(0x82, "\x00\x0a", none, mqttText(inbox), "\x01"),
		mqttPacket(0x82, "\x00\x0b", none, mqttText("rtc/v1/attic/peers/+"), "\x00", mqttText("rtc/v1/attic/all/+"), "\x02"),
		mqttPacket(0xa2, "\x00\x0c", none, mqttText(inbox)),
		"\xc0\x00", "\xe0\x00",
	}
	if version == 5 {
		user := "\x26" + mqttText("key") + mqttText("value")
		all = append(all,
			mqttPacket(0x32, mqttText("rtc/v1/attic/to/mallory/mallory"), "\x00\x0d", string(rune(len(user)))+user, `{"type":"msg"}`),
			mqttPacket(0x82, "\x00\x0e", "\x02\x0b\x05", mqttText(inbox), "\x2d"),
			mqttPacket(0xe0, "\x00\x05\x11\x00\x00\x00\x00"), mqttPacket(0xf0, "\x18\x00"), mqttPacket(0x40, "\x00\x01\x10\x00"))
	}
	return all
}

// mutant is a packet that something has happened to.
func mutant(r *rand.Rand, packet string) string {
	b := []byte(packet)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b))
		switch r.IntN(8) {
		case 0: // a bit
			b[at] ^= 1 << r.IntN(8)
		case 1: // a byte
			b[at] = byte(r.Uint32())
		case 2: // a byte at an edge
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 3: // cut off, and the length still right
			if b = b[:max(at, 2)]; len(b) < 130 {
				b[1] = byte(len(b) - 2)
			}
		case 4: // something more
			b = append(b, make([]byte, r.IntN(5))...)
			b[len(b)-1] = byte(r.Uint32())
		case 5: // a part twice
			b = append(b[:at:at], append(b[r.IntN(at+1):at:at], b[at:]...)...)
		case 6: // a length of 16 bits
			if at+2 <= len(b) {
				binary.BigEndian.PutUint16(b[at:], uint16(r.Uint32()))
			}
		case 7: // the length of the whole
			if len(b) > 1 {
				b[1] = byte(r.IntN(128))
			}
		}
		if len(b) == 0 {
			b = []byte{0}
		}
	}
	return string(b)
}

// fuzzer sends mutants and sees whether each was looked at: the connection goes on
// to answer a ping after it, or is ended.
type fuzzer struct {
	open    func() (net.Conn, error)
	random  *rand.Rand
	version byte
	conn    net.Conn
}

func (f *fuzzer) close() {
	if f.conn == nil {
		return
	}
	if tcp, ok := socket(f.conn).(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // ports are few
	}
	_ = socket(f.conn).Close()
	f.conn = nil
}

// try sends one, on the connection of before if it still stands, and reports
// whether the connection lives on after it, or was ended. Neither: the mutant waits
// for more than there is.
func (f *fuzzer) try() (lives, ended bool, err error) {
	all := models(f.version)
	at := f.random.IntN(len(all))
	if at < 2 { // a CONNECT is the first
		f.close()
	}
	if f.conn == nil {
		conn, err := f.open()
		if err != nil {
			return false, false, err
		}
		f.conn = conn
		if at >= 2 {
			_, _ = io.WriteString(f.conn, connectAs(f.version, "mallory", "", "", ""))
		}
	}
	m := mutant(f.random, all[at])
	_, _ = io.WriteString(f.conn, m+remainder(m)+"\xc0\x00")
	lives, ended = f.answer()
	if !lives || m[0]>>4 == 12 { // whose own answer may be the one that came
		f.close()
	}
	return lives, ended, nil
}

// rest is what a packet that claims to be longer lacks, within reason.
func remainder(packet string) string {
	n, size := binary.Uvarint([]byte(packet[1:]))
	if lacks := int64(n) + int64(size) + 1 - int64(len(packet)); size > 0 && size < 5 && 0 < lacks && lacks < 20_000 {
		return strings.Repeat("\x00", int(lacks))
	}
	return ""
}

// answer waits for the answer to a ping, or the end, but not for long.
func (f *fuzzer) answer() (answered, ended bool) {
	seen := make([]byte, 4096)
	_ = f.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for {
		n, err := f.conn.Read(seen)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return false, false
		}
		if err != nil {
			return false, true
		}
		if strings.Contains(string(seen[:n]), "\xd0\x00") {
			return true, false
		}
	}
}

func TestThreatMutatedPacketsHurtNobodyElse(t *testing.T) {
	threat.Row(t, 13, threat.MQTT)
	b := besiege(t, "--limit-connects=0") // it opens as many as the machine can
	song := b.startChoir()
	start, total := time.Now(), int64(times(50_000, 1_000_000))
	var sent, looked, lived atomic.Int64
	schemes := []string{"tcp", "tcp", "tcp", "tcp", "tcp", "tls", "ws", "ws"}
	together(2*len(schemes), func(i int) {
		scheme, version := schemes[i/2], byte(4+i%2)
		f := &fuzzer{open: func() (net.Conn, error) { return b.open(scheme) }, random: rand.New(rand.NewPCG(uint64(i), 13)), version: version}
		defer f.close()
		for looked.Load() < total && (*long || time.Since(start) < 5*time.Second) {
			lives, ended, err := f.try()
			if err != nil {
				t.Errorf("%s: %v", scheme, err)
				return
			}
			sent.Add(1)
			if lives || ended {
				looked.Add(1)
			}
			if lives {
				lived.Add(1)
			}
		}
	})
	took := time.Since(start)
	p50, p99, worst := song.end()
	t.Logf("%d mutated packets in %v, of which %d were answered or ended their connection, %d did it no harm; %d songs of the canaries, each arrived: median %v, p99 %v, worst %v",
		sent.Load(), took.Round(time.Second), looked.Load(), lived.Load(), b.heard(), p50, p99, worst)
	if lived.Load() < sent.Load()/20 {
		t.Error("next to none were sent on a connection that was let in")
	}
	b.unharmed()
}

func TestThreatGarbageConnectionsHurtNobodyElse(t *testing.T) {
	threat.Row(t, 13, threat.MQTT|threat.JSON|threat.HTTP)
	b := besiege(t, "--limit-connects=0")
	song := b.startChoir()
	random := rand.New(rand.NewPCG(13, 13))
	for n := range times(200, 2000) {
		scheme := []string{"tcp", "tls", "ws", "wss"}[n%4]
		conn, err := b.open(scheme)
		if err != nil {
			t.Fatal(err)
		}
		garbage := make([]byte, 1+random.IntN(1<<(n%14)))
		for i := range garbage {
			garbage[i] = byte(random.Uint32())
		}
		garbage[0] = []byte{0x10, 0x16, 'G', 'P', garbage[0]}[n/4%5]
		_, _ = conn.Write(garbage)
		(&fuzzer{conn: conn}).close()
	}
	p50, p99, worst := song.end()
	t.Logf("%d songs of the canaries, each arrived: median %v, p99 %v, worst %v", b.heard(), p50, p99, worst)
	b.unharmed()
}

// Topics that are too deep or too long are refused before anybody looks into
// them.
func TestThreatDeepAndLongTopicsAreRefusedAtOnce(t *testing.T) {
	threat.Row(t, 21, threat.MQTT|threat.JSON)
	b := besiege(t)
	bad := []string{
		"rtc/v1/garage/to/bird/mallory/x/y/z", "rtc/v1/garage/all/" + strings.Repeat("m", 257), strings.Repeat("/", 8), strings.Repeat("/", 32_000),
		"rtc/v1/" + strings.Repeat("a/", 20_000) + "all/mallory", strings.Repeat("a", 65_000), strings.Repeat("+/", 20_000) + "#",
	}
	var worst time.Duration
	for _, scheme := range []string{"tcp", "tls", "ws", "wss"} {
		for _, version := range []byte{4, 5} {
			for _, topic := range bad {
				for _, subscribe := range []bool{false, true} {
					w := b.wire(t, scheme, version)
					w.connect("mallory", "", "")
					w.mustSubscribe("attic", "to/mallory/+")
					out := w.publication(topic, `{"type":"msg"}`, false)
					if subscribe {
						out = w.subscription(topic)
					}
					start := time.Now()
					answers := w.ask(out)
					worst = max(worst, time.Since(start))
					last := answers[len(answers)-1]
					if version == 5 && last.code < 0x80 || version == 4 && last.kind != 0xe0 && last.code != 0x80 && !strings.Contains(fmt.Sprint(w.take()), `"code":400`) && !outside(topic) {
						t.Errorf("%.50q of %d bytes by %s in version %d, subscribe %v: %v", topic, len(topic), scheme, version, subscribe, answers)
					}
					w.conn.Close()
				}
			}
		}
	}
	for _, at := range []entrance{jsonWS, jsonWSS} {
		m := b.caller(t, at, "mallory", "attic")
		for _, room := range []string{"a/b/c/d/e/f/g/h/i", strings.Repeat("a", 65), strings.Repeat("a/", 20_000)} {
			start := time.Now()
			r, err := m.line.(*lineJSON).ask(func(id int) string { return fmt.Sprintf(`{"type":"join","id":%d,"room":%q}`, id, room) })
			worst = max(worst, time.Since(start))
			if err != nil || r.code != 400 {
				t.Errorf("%.50q by %v: %.200v %v", room, at, r, err)
			}
			m.until("the error", func(e event) bool { return e.kind == "error" })
		}
		m.leave()
	}
	t.Logf("the longest took %v, there and back", worst)
	if worst > 2*time.Second { // mochi alone takes 20 s for it
		t.Errorf("a topic took %v", worst)
	}
	b.unharmed()
}

// outside reports whether a topic is outside the rooms, where 3.1.1 has no words
// for a refusal.
func outside(topic string) bool { return !strings.HasPrefix(topic, "rtc/v1/") }

// Thousands of user properties cost their sender the connection, and the server
// next to nothing.
func TestThreatThousandsOfUserPropertiesCostNothing(t *testing.T) {
	threat.Row(t, 22, threat.TCP5|threat.TLS5|threat.WS5)
	b := besiege(t)
	user := strings.Repeat("\x26"+mqttText("k")+mqttText("v"), 9000)
	some := strings.Repeat("\x26"+mqttText("k")+mqttText("v"), 1000)
	length := func(s string) string { return string(binary.AppendUvarint(nil, uint64(len(s)))) }
	for _, scheme := range []string{"tcp", "tls", "ws", "wss"} {
		const tries = 50
		start := cpuTime(t)
		for n := range tries {
			w := b.wire(t, scheme, 5)
			if n%3 == 0 { // before authentication, where 8 KiB are all there is
				_, _ = io.WriteString(w.conn, mqttPacket(0x10, mqttText("MQTT"), "\x05\x02\x00\x3c", length(some), some, mqttText("mallory")))
				if kind, body, err := w.read(); err == nil && kind == 0x20 && body[1] == 0 {
					t.Error("it was let in")
				}
				w.conn.Close()
				continue
			}
			w.connect("mallory", "", "")
			packet := mqttPacket(0x32, mqttText("rtc/v1/attic/all/mallory"), w.id(), length(user), user, `{"type":"msg"}`)
			if n%3 == 1 {
				packet = mqttPacket(0x82, w.id(), length(user), user, mqttText("rtc/v1/attic/to/mallory/+"), "\x00")
			}
			answers := w.ask(packet)
			if last := answers[len(answers)-1]; last.kind != 0xe0 || last.code < 0x80 {
				t.Errorf("by %s: %v", scheme, answers)
			}
			w.conn.Close()
		}
		each := (cpuTime(t) - start) / tries
		t.Logf("by %s: %v of CPU each, connecting and the client's part with it", scheme, each)
		if each > 50*time.Millisecond { // 5 ms where nothing else runs
			t.Errorf("by %s: %v of CPU each", scheme, each)
		}
	}
	b.unharmed()
}

// A client that never ends its QoS 2 exchanges fills nothing, whether it sends or
// receives.
func TestThreatQoS2ThatNeverEndsTakesNoMemory(t *testing.T) {
	threat.Row(t, 23, threat.MQTT)
	b := besiege(t)
	sender := b.caller(t, mqtt5TCP, "sender", "attic")
	for _, scheme := range []string{"tcp", "tls", "ws"} {
		for _, version := range []byte{4, 5} {
			w := b.wire(t, scheme, version)
			w.connect("mallory", "", "")
			w.mustSubscribe("attic", "to/mallory/+")
			before := inUse()
			publish := func(id uint16) string {
				return mqttPacket(0x34, mqttText("rtc/v1/attic/all/mallory"), string(binary.BigEndian.AppendUint16(nil, id)), w.none(), `{"type":"msg","data":"`+strings.Repeat("x", 1000)+`"}`)
			}
			for n := range times(5, 200) { // the same one, over and over
				w.ask(strings.Repeat(publish(uint16(n%2+1)), 50))
			}
			for id := uint16(1); id < 20_000; id += 500 { // and a new one each time
				var burst strings.Builder
				for i := range uint16(500) {
					burst.WriteString(publish(id + i))
				}
				if a := w.ask(burst.String()); a[len(a)-1].kind == 0xe0 {
					t.Logf("by %s in version %d it was cut at identifier %d: %v", scheme, version, id, a[len(a)-1])
					break
				}
			}
			if more := int64(inUse()) - int64(before); more > 4<<20 {
				t.Errorf("by %s in version %d: %d KiB more in use", scheme, version, more>>10)
			}
			w.conn.Close()

			deaf := b.wire(t, scheme, version) // takes QoS 2 and answers nothing
			deaf.connect("deaf", "", "")
			deaf.ask(mqttPacket(0x82, "\x00\x01", deaf.none(), mqttText("rtc/v1/attic/to/deaf/+"), "\x02"))
			before = inUse()
			busy := 0
			payload := `{"type":"msg","data":"` + strings.Repeat("x", 4000) + `"}`
			for range 1500 {
				if fate, err := sender.line.(*line5).publishQoS(sender.line.(*line5).to("attic", "deaf"), payload, 2); err != nil {
					t.Fatal(err)
				} else if fate == 0x97 {
					busy++
					break
				}
			}
			if more := int64(inUse()) - int64(before); more > 16<<20 {
				t.Errorf("by %s in version %d: %d KiB more in use for a receiver that answers nothing", scheme, version, more>>10)
			}
			for len(sender.events) > 0 {
				<-sender.events // what it is told, which would fill up
			}
			if busy == 0 {
				t.Errorf("by %s in version %d: the sender is never told that deaf is busy", scheme, version)
			}
			deaf.conn.Close()
			sender.until("that deaf is gone", func(e event) bool { return e.from == "deaf" && e.gone() })
		}
	}
	sender.leave()
	b.unharmed()
}
