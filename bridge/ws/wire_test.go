package ws

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
)

// sink is a connection that keeps what is written to it.
type sink struct {
	net.Conn
	bytes.Buffer
	deadlines int
}

func (s *sink) Read(p []byte) (int, error)  { return s.Buffer.Read(p) }
func (s *sink) Write(p []byte) (int, error) { return s.Buffer.Write(p) }
func (s *sink) SetWriteDeadline(time.Time) error {
	s.deadlines++
	return nil
}

func newWire(to net.Conn) *wire {
	return &wire{Conn: to, timeout: time.Second, pool: &sync.Pool{New: func() any { return new([]byte) }}}
}

func TestFramesOfAllLengthsAreReadAsTheyWereWritten(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 100000} {
		var s sink
		w := newWire(&s)
		frame := bridge.Frame{Head: bytes.Repeat([]byte("h"), n/3), Rest: bytes.Repeat([]byte("r"), n-n/3)}
		if !w.text(frame) || !w.text(bridge.Frame{Head: []byte("next")}) {
			t.Fatal("the wire took no frame")
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		for _, want := range [][]byte{frame.Text(), []byte("next")} {
			if got := textFrame(t, &s); !bytes.Equal(got, want) {
				t.Errorf("a frame of %d bytes was read as %d", len(want), len(got))
			}
		}
	}
}

// textFrame reads a text frame that is not masked (RFC 6455, 5.2).
func textFrame(t *testing.T, r io.Reader) []byte {
	t.Helper()
	next := func(n int) []byte {
		p := make([]byte, n)
		if _, err := io.ReadFull(r, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	head := next(2)
	if head[0] != 0x81 {
		t.Fatalf("the first byte is %#x", head[0])
	}
	length := int(head[1])
	switch length {
	case 126:
		if length = int(binary.BigEndian.Uint16(next(2))); length < 126 {
			t.Errorf("%d is written in three bytes", length)
		}
	case 127:
		if length = int(binary.BigEndian.Uint64(next(8))); length < 1<<16 {
			t.Errorf("%d is written in nine bytes", length)
		}
	}
	return next(length)
}

func TestNoFrameFollowsACloseFrame(t *testing.T) {
	var s sink
	w := newWire(&s)
	io.WriteString(w, "\x88\x00")
	if w.text(bridge.Frame{Head: []byte("late")}) {
		t.Error("a frame was taken")
	}
	if w.flush(); s.String() != "\x88\x00" {
		t.Errorf("%q was written", s.String())
	}
}

func TestABusyWireSetsADeadlineOnceInAWhile(t *testing.T) {
	var s sink
	w := newWire(&s)
	w.timeout = time.Hour
	for range 100 {
		w.text(bridge.Frame{Head: []byte("x")})
		w.flush()
	}
	if s.deadlines != 1 {
		t.Errorf("%d deadlines were set for 100 writes at once", s.deadlines)
	}
	w.until = time.Now().Add(w.timeout / 2)
	w.text(bridge.Frame{})
	if w.flush(); s.deadlines != 2 {
		t.Error("none was set when half of the time had passed")
	}
}

func TestWhatTheSocketDoesNotTakeAtOnceIsFlushed(t *testing.T) {
	var s sink
	w := newWire(&s)
	room := 5
	w.eager = func(p []byte) int {
		n, _ := s.Write(p[:min(len(p), room)])
		room -= n
		return n
	}
	if !w.try() {
		t.Error("of nothing something was left")
	}
	w.text(bridge.Frame{Head: []byte("a")})
	if !w.try() || s.deadlines != 0 {
		t.Error("what there was room for did not leave at once")
	}
	w.text(bridge.Frame{Head: []byte("bcd")})
	if w.try() {
		t.Error("more left than there was room for")
	}
	w.text(bridge.Frame{Head: []byte("e")})
	if err := w.flush(); err != nil || s.deadlines != 1 {
		t.Errorf("the rest was flushed with %d deadlines, %v", s.deadlines, err)
	}
	for _, want := range []string{"a", "bcd", "e"} {
		if got := textFrame(t, &s); string(got) != want {
			t.Errorf("%q was written in place of %q", got, want)
		}
	}
}
