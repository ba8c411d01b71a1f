package ws

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// ofClient is a frame as a client sends it, of less than 64 KiB (RFC 6455, 5.2).
func ofClient(first byte, payload []byte) []byte {
	mask := []byte{0x37, 0xFA, 0x21, 0x3D}
	out := []byte{first, masked | byte(len(payload))}
	if len(payload) > 125 {
		out = binary.BigEndian.AppendUint16([]byte{first, masked | 126}, uint16(len(payload)))
	}
	out = append(out, mask...)
	for i, c := range payload {
		out = append(out, c^mask[i%4])
	}
	return out
}

// incomingWire is a wire that has read that.
func incomingWire(read []byte) *wire {
	return &wire{frames: new(bufio.Reader), reads: new(sync.Pool), in: &read, rest: read}
}

func TestAFrameIsTakenWhenAllOfItIsThere(t *testing.T) {
	for _, n := range []int{0, 1, 3, 4, 7, 8, 9, 15, 16, 125, 126, 127, 2000, 65535} {
		payload := bytes.Repeat([]byte("Hallo, "), n/7+1)[:n]
		frame := ofClient(final|websocket.TextMessage, payload)
		for _, part := range []int{0, 1, 2, 3, 5, len(frame) - 1} {
			if incomingWire(frame[:part]).whole(n, func(int, []byte) { t.Errorf("%d of %d bytes are taken", part, len(frame)) }) {
				t.Errorf("%d of %d bytes are a frame", part, len(frame))
			}
		}
		w := incomingWire(append(frame, "next"...))
		var got []byte
		if !w.whole(n, func(_ int, payload []byte) { got = bytes.Clone(payload) }) || !bytes.Equal(got, payload) {
			t.Errorf("of %d bytes %d were read, %.20q", n, len(got), got)
		}
		if string(w.rest) != "next" {
			t.Errorf("%.20q is left", w.rest)
		}
	}
}

func TestOnlyWhatIsAMessageByItselfIsTakenPastTheLibrary(t *testing.T) {
	hi, long := []byte("hi"), bytes.Repeat([]byte("x"), 126)
	unmasked := ofClient(final|websocket.TextMessage, hi)
	unmasked[1] &^= masked
	for what, frame := range map[string][]byte{
		"a text that goes on": ofClient(websocket.TextMessage, hi),
		"the end of one":      ofClient(final, hi),
		"a binary one":        ofClient(final|websocket.BinaryMessage, hi),
		"a close frame":       ofClient(final|websocket.CloseMessage, []byte{3, 0xE8}),
		"a compressed text":   ofClient(final|0x40|websocket.TextMessage, hi),
		"a reserved kind":     ofClient(final|3, hi),
		"a text unmasked":     unmasked,
		"one over the limit":  ofClient(final|websocket.TextMessage, long[:101]),
		"a ping too long":     ofClient(final|websocket.PingMessage, long),
		"half a ping":         ofClient(websocket.PingMessage, hi),
		"a length of 64 bits": {final | websocket.TextMessage, masked | 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		before := bytes.Clone(frame)
		if incomingWire(frame).whole(100, func(int, []byte) { t.Errorf("%s is taken", what) }) {
			t.Errorf("%s is read", what)
		}
		if !bytes.Equal(frame, before) {
			t.Errorf("%s was changed, which the library has yet to read", what)
		}
	}
	behind := incomingWire(ofClient(final|websocket.TextMessage, hi))
	behind.frames = bufio.NewReaderSize(bytes.NewReader(hi), readAhead)
	_, _ = behind.frames.Peek(1)
	if behind.whole(100, func(int, []byte) { t.Error("it is taken") }) {
		t.Error("a frame overtakes what the library has read ahead")
	}
}
