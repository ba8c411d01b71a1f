package ws

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

const (
	final          = 0x80 // set in the first byte of a frame that is a whole message (RFC 6455, 5.2)
	masked         = 0x80 // set in the second byte of a client's
	longestControl = 125  // bytes that a ping or pong may carry (RFC 6455, 5.5)
)

// whole shows take what is next, where a frame begins, if all of it is there and it is
// a message in one frame: a ping or pong, or a text that is not longer than that. The
// payload is good until take returns. All else, and what is wrong, is gorilla's, whose
// reader goes on from a ping to wait for what follows, and copies a text twice.
func (w *wire) whole(longest int, take func(kind int, payload []byte)) bool {
	if w.frames.Buffered() > 0 {
		return false
	}
	f, ok := wholeFrame(w.rest)
	switch {
	case !ok:
		return false
	case f.kind == websocket.TextMessage && len(f.payload) <= longest:
	case (f.kind == websocket.PingMessage || f.kind == websocket.PongMessage) && len(f.payload) <= longestControl:
	default:
		return false
	}
	unmask(f.payload, f.mask)
	take(f.kind, f.payload)
	w.took(f.size)
	return true
}

// clientFrame is a final frame of a client; mask and payload are parts of the text.
type clientFrame struct {
	kind          int
	mask, payload []byte
	size          int // of all
}

// wholeFrame reads the frame that text begins with (RFC 6455, 5.2), if it is final,
// masked, shorter than 64 KiB, and all there.
func wholeFrame(text []byte) (f clientFrame, ok bool) {
	const short, two = 2, 4 // bytes before the mask
	if len(text) < short || text[0]&final == 0 || text[1]&masked == 0 {
		return f, false
	}
	head, n := short, int(text[1]&^masked)
	switch {
	case n == 127 || n == 126 && len(text) < two:
		return f, false
	case n == 126:
		head, n = two, int(binary.BigEndian.Uint16(text[short:]))
	}
	f.size = head + 4 + n
	if len(text) < f.size {
		return f, false
	}
	f.kind, f.mask, f.payload = int(text[0]&^final), text[head:head+4], text[head+4:f.size]
	return f, true
}

// unmask takes the mask off, eight bytes at a time (RFC 6455, 5.3).
func unmask(text, mask []byte) {
	word := uint64(binary.LittleEndian.Uint32(mask))
	word |= word << 32
	for len(text) >= 8 {
		binary.LittleEndian.PutUint64(text, binary.LittleEndian.Uint64(text)^word)
		text = text[8:]
	}
	for i := range text {
		text[i] ^= mask[i%4]
	}
}
