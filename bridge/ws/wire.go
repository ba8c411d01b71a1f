package ws

import (
	"bufio"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
)

// wire is the socket as gorilla sees it: what is written waits for flush, so
// that several frames leave in one write, and what has come is read at once. An
// idle connection has no buffer for either. It sees to the write deadlines.
type wire struct {
	net.Conn
	timeout time.Duration
	pool    *sync.Pool // of *[]byte
	reads   *sync.Pool // of *[]byte, of length bridge.Chunk

	lender lender        // nil where the socket is read into the reader's own buffer
	in     *[]byte       // nil while nothing is left of what was read. The reader's, as what follows
	rest   []byte        // of in
	err    error         // that wait found
	frames *bufio.Reader // gorilla's, of this wire
	woken  bool          // something was read since it was quiet
	quiet  time.Time     // a deadline: then it will be; zero: there is none

	eager func([]byte) int // writes without waiting, see [bridge.Eager]; nil where one has to
	until time.Time        // the write deadline. Of whoever flushes

	mu     sync.Mutex
	out    *[]byte // nil while there is nothing
	closed bool    // a close frame was written, and nothing may follow it
	last   bool    // the read deadline is that of linger
}

// lender is a connection that can be read into a buffer which is lent: see
// [bridge.Lent], which is one for any socket.
type lender interface {
	ReadLent(pool *sync.Pool) (buf *[]byte, n int, err error)
}

type lentSocket struct{ *bridge.Lent }

func (s lentSocket) ReadLent(pool *sync.Pool) (*[]byte, int, error) { return s.Read(pool) }

// lenderOf returns nil where there is none.
func lenderOf(conn net.Conn) lender {
	if l, ok := conn.(lender); ok {
		return l
	}
	if l := bridge.NewLent(conn); l != nil {
		return lentSocket{l}
	}
	return nil
}

// eagerOf returns nil where there is none.
func eagerOf(conn net.Conn) func([]byte) int {
	if e, ok := conn.(interface{ Eager() func([]byte) int }); ok {
		return e.Eager()
	}
	return bridge.Eager(conn)
}

// took says that n bytes of what was read are done with.
func (w *wire) took(n int) {
	if w.rest = w.rest[n:]; len(w.rest) == 0 {
		w.reads.Put(w.in)
		w.in = nil
	}
}

// Read hands out what was read, and reads more when nothing is left.
func (w *wire) Read(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	for w.in == nil && w.lender != nil {
		if err := w.fill(); err != nil && !w.early(err) {
			return 0, err
		}
	}
	if w.in == nil {
		return w.Conn.Read(p)
	}
	n := copy(p, w.rest)
	w.took(n)
	return n, nil
}

// fill reads what has come, and waits until something has.
func (w *wire) fill() error {
	buf, n, err := w.lender.ReadLent(w.reads)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		w.lender = nil // nor will it ever
		return nil
	case err != nil:
		return err
	}
	w.in, w.rest = buf, (*buf)[:n]
	return nil
}

// readFrames sees to it that gorilla's reader, which cannot be another one, has its
// buffer. A quiet connection has none.
func (w *wire) readFrames() {
	if w.frames.Size() == 0 {
		*w.frames = *bufio.NewReaderSize(w, readAhead)
	}
}

// readUntil sets the read deadline, but not in place of the last one.
func (w *wire) readUntil(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last {
		_ = w.Conn.SetReadDeadline(t) // it fails on a socket that has ended, which the next read finds
	}
}

// linger sets the last read deadline: all is said, and the client may close.
func (w *wire) linger() {
	w.readUntil(time.Now().Add(lingerFor))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = true
}

// Write takes what gorilla writes: its answer to the upgrade, and control frames.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = w.closed || len(p) > 0 && p[0] == final|websocket.CloseMessage
	w.take()
	*w.out = append(*w.out, p...)
	return len(p), nil
}

// text writes a text frame, which a server does not mask. False: there was a close
// frame. It is done here, since for each frame gorilla would take two locks and two
// pooled buffers, and copy it once more.
func (w *wire) text(f bridge.Frame) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.take()
	out := append(*w.out, final|websocket.TextMessage)
	switch n := f.Len(); {
	case n <= 125:
		out = append(out, byte(n))
	case n <= math.MaxUint16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	*w.out = f.AppendTo(out)
	return true
}

// take sees to it that there is a buffer. With w.mu held.
func (w *wire) take() {
	if w.out == nil {
		w.out = w.pool.Get().(*[]byte)
	}
}

// SetWriteDeadline does nothing: flush sets it.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// try sends what was written as far as the socket takes it at once, and reports
// whether that was all; the rest is for flush. It is called by one goroutine at a time.
func (w *wire) try() bool {
	if w.eager == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return true
	}
	if n := w.eager(*w.out); n < len(*w.out) {
		*w.out = slices.Delete(*w.out, 0, n)
		return false
	}
	w.put(w.out)
	w.out = nil
	return true
}

// put gives a buffer back to the pool.
func (w *wire) put(out *[]byte) {
	if cap(*out) <= 4*bridge.Chunk {
		*out = (*out)[:0]
		w.pool.Put(out)
	}
}

// flush sends what was written. It is called by one goroutine at a time.
func (w *wire) flush() error {
	w.mu.Lock()
	out := w.out
	w.out = nil
	w.mu.Unlock()
	if out == nil {
		return nil
	}
	err := w.send(*out)
	w.put(out)
	return err
}

func (w *wire) send(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), bridge.Chunk)
		if err := w.extend(); err != nil {
			return err
		}
		if _, err := w.Conn.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// extend gives the next write the timeout at most, and four fifths of it at least:
// so a busy connection sets a deadline, which takes a lock and a timer, once in a
// while and not for each write, where it was 3 % of a fan-out's CPU time.
func (w *wire) extend() error {
	now := time.Now()
	if w.until.Sub(now) >= w.timeout/5*4 {
		return nil
	}
	w.until = now.Add(w.timeout)
	return w.Conn.SetWriteDeadline(w.until)
}

// readAhead is small, since each connection has such a buffer, and the wire reads
// ahead; long frames pass it by. It is the least that gorilla takes from others.
const readAhead = 257

// hijacker gives gorilla the wire in place of the socket, and a reader of it.
type hijacker struct {
	http.ResponseWriter
	wire *wire
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.wire.Conn, h.wire.lender, h.wire.eager = conn, lenderOf(conn), eagerOf(conn)
	if rw.Reader.Buffered() > 0 {
		return h.wire, rw, nil // too early, as gorilla will find
	}
	h.wire.frames = bufio.NewReaderSize(h.wire, readAhead)
	return h.wire, bufio.NewReadWriter(h.wire.frames, rw.Writer), nil
}
