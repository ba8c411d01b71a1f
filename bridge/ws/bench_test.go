package ws_test

import (
	"bufio"
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
			header := 2
			if len(text) > 125 {
				header = 4
			}
			got := make([]byte, header+len(strings.Replace(text, `"to":"bob"`, `"room":"garage","from":"alice"`, 1)))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				alice.write(frame)
				if _, err := io.ReadFull(bob, got); err != nil {
					b.Fatal(err)
				}
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
