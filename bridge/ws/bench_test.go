package ws_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/bridge/ws"
)

// raw is a client without a library: what is measured is the door's.
type raw struct {
	net.Conn
	b *testing.B
}

// flatOut is a door without a log, and without a budget of frames.
func flatOut(c *ws.Config) { c.Logger, c.Frames = slog.New(slog.DiscardHandler), -1 }

func (h *house) raw(b *testing.B, room, peer string) raw {
	b.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "ws://"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	c := raw{conn, b}
	c.write([]byte("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	c.until("\r\n\r\n")
	c.write(masked(`{"type":"join","room":"` + room + `","peer":"` + peer + `"}`))
	c.until(`"ping":20,"resume":"`)
	c.until(`"}`)
	return c
}

func (c raw) write(p []byte) {
	if _, err := c.Write(p); err != nil {
		c.b.Fatal(err)
	}
}

func (c raw) until(end string) {
	var got []byte
	r := bufio.NewReaderSize(io.LimitReader(c, 1<<20), 16)
	for !strings.HasSuffix(string(got), end) {
		p, err := r.ReadByte()
		if err != nil {
			c.b.Fatal(err)
		}
		got = append(got, p)
	}
}

// text reads a text frame into buf, which is long enough, and answers the pings before
// it: what is not known to have arrived is remembered, and its length bounded.
func (c raw) text(buf []byte) []byte {
	for {
		c.fill(buf[:2])
		kind, n := buf[0], int(buf[1])
		if n == 126 {
			c.fill(buf[:2])
			n = int(binary.BigEndian.Uint16(buf))
		}
		c.fill(buf[:n])
		if kind == 0x81 {
			return buf[:n]
		}
		c.write(append([]byte{0x8A, 0x80 | byte(n), 0, 0, 0, 0}, buf[:n]...))
	}
}

func (c raw) fill(buf []byte) {
	if _, err := io.ReadFull(c, buf); err != nil {
		c.b.Fatal(err)
	}
}

// masked is a text frame of a client, masked with zeros.
func masked(text string) []byte {
	head := []byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}
	if len(text) > 125 {
		head = []byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}
	}
	return append(head, text...)
}

func BenchmarkDoorToDoor(b *testing.B) {
	for _, size := range []int{200, 6000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			h := open(b, flatOut)
			bob := h.raw(b, "garage", "bob")
			alice := h.raw(b, "garage", "alice")
			bob.until(`"via":"ws"}}`)
			text := `{"type":"offer","to":"bob","session":"k3","sdp":"` + strings.Repeat("x", size) + `"}`
			frame := masked(text)
			space := make([]byte, 2*size+200)
			var got []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				alice.write(frame)
				got = bob.text(space)
			}
			if !strings.HasSuffix(string(got), `xx"}`) {
				b.Fatalf("it ended with %q", got[len(got)-20:])
			}
		})
	}
}

// BenchmarkIdleConnection reports what a joined connection that says nothing
// costs in heap and stacks, its client's socket included.
func BenchmarkIdleConnection(b *testing.B) {
	const n = 2000
	for b.Loop() {
		h := open(b, flatOut)
		clients := make([]raw, n)
		before, goroutines := memory(), runtime.NumGoroutine()
		for i := range clients {
			clients[i] = h.raw(b, fmt.Sprintf("r%d", i), "p")
		}
		b.ReportMetric(float64(memory()-before)/n, "B/conn")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/conn")
		for _, c := range clients {
			c.Close()
		}
		h.Close()
	}
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
