package broker

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// rawPeer is a client of MQTT 3.1.1 that costs next to nothing: what it gets has
// one length, and the identifier in one place.
type rawPeer struct {
	t    testing.TB
	conn net.Conn
	got  []byte // the packet that came last
	ack  [4]byte
}

func (s *server) raw(t testing.TB, name string, qos byte, filters ...string) *rawPeer {
	t.Helper()
	p := &rawPeer{t: t, conn: s.dial(t)}
	send(t, p.conn, connect3(name, ""))
	receive(t, p.conn)
	for _, f := range filters {
		send(t, p.conn, packet(0x82, []byte{0, 1}, text(f), []byte{qos}))
		receive(t, p.conn)
	}
	if hello := receive(t, p.conn); hello[0]&6 != 0 {
		p.acknowledge(hello[4+len(inbox("garage", name))-1+len("_"):])
	}
	return p
}

func (p *rawPeer) acknowledge(id []byte) {
	p.ack = [4]byte{0x40, 2, id[0], id[1]}
	p.write(p.ack[:])
}

func (p *rawPeer) write(b []byte) {
	if _, err := p.conn.Write(b); err != nil {
		p.t.Error(err)
	}
}

// take reads a PUBLISH of that length, and acknowledges it if it has an
// identifier, at that place.
func (p *rawPeer) take(length, id int) {
	if len(p.got) != length {
		p.got = make([]byte, length)
	}
	if _, err := io.ReadFull(p.conn, p.got); err != nil {
		p.t.Error(err)
		return
	}
	if id > 0 {
		p.acknowledge(p.got[id:])
	}
}

// pair is two peers, and what one of them says to the other: an offer of 2 KiB.
type pair struct {
	from, to *rawPeer
	offer    []byte
	id       int // where the identifier is; 0 for QoS 0
}

func newPair(t testing.TB, qos byte) *pair {
	quiet := slog.New(slog.DiscardHandler)
	s := serve(t, Config{Logger: quiet})
	p := &pair{to: s.raw(t, "cam1", qos, inbox("garage", "cam1")), from: s.raw(t, "alice", qos, inbox("garage", "alice"))}
	topic, id := "rtc/v1/garage/to/cam1/alice", []byte(nil)
	if qos > 0 {
		id = []byte{0, 1}
	}
	offer := fmt.Sprintf(`{"type":"offer","session":"s1","sdp":"v=0\r\n%s"}`, strings.Repeat("a=candidate\\r\\n", 140))
	p.offer = packet(0x30|qos<<1, text(topic), id, []byte(offer))
	if qos > 0 {
		p.id = 3 + 2 + len(topic)
	}
	return p
}

func (p *pair) say() {
	p.from.write(p.offer)
	p.to.take(len(p.offer), p.id)
	if p.id > 0 {
		_, _ = io.ReadFull(p.from.conn, p.from.ack[:])
	}
}

// A message allocates itself, its payload, and what reading its JSON takes.
func TestMessageFromMQTTToMQTTAllocatesLittle(t *testing.T) {
	for qos, most := range map[byte]float64{0: 6, 1: 7} {
		p := newPair(t, qos)
		for range 100 {
			p.say()
		}
		n := testing.AllocsPerRun(500, p.say)
		t.Logf("QoS %d: %v allocations", qos, n)
		if n > most {
			t.Errorf("QoS %d: %v allocations for each message, at most %v", qos, n, most)
		}
	}
}

func BenchmarkMQTTToMQTT(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			p := newPair(b, qos)
			b.ReportAllocs()
			for b.Loop() {
				p.say()
			}
		})
	}
}

func BenchmarkFanOutTo200(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			const receivers = 200
			s := serve(b, Config{Logger: slog.New(slog.DiscardHandler)})
			topic, place, id := "rtc/v1/garage/all/alice", 0, []byte(nil)
			if qos > 0 {
				id, place = []byte{0, 1}, 2+2+len(topic)
			}
			hi := packet(0x30|qos<<1, text(topic), id, []byte(`{"type":"msg","data":"`+strings.Repeat("x", 40)+`"}`))
			came := make(chan struct{}, receivers)
			for i := range receivers {
				name := fmt.Sprintf("cam%d", i)
				p := s.raw(b, name, qos, "rtc/v1/garage/all/+", inbox("garage", name))
				go func() {
					buf := make([]byte, len(hi))
					for {
						if _, err := io.ReadFull(p.conn, buf); err != nil {
							return
						}
						if place > 0 {
							_, _ = p.conn.Write([]byte{0x40, 2, buf[place], buf[place+1]})
						}
						came <- struct{}{}
					}
				}()
			}
			alice := s.raw(b, "alice", 0, inbox("garage", "alice"))
			b.ReportAllocs()
			for b.Loop() {
				alice.write(hi)
				if qos > 0 {
					_, _ = io.ReadFull(alice.conn, alice.ack[:])
				}
				for range receivers {
					<-came
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/receivers, "ns/delivery")
		})
	}
}
