package ws

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"
)

// chunk is how much is written at once. A receiver has the write timeout for
// each, so it also says how slow one may be.
const chunk = 16 << 10

// wire is the socket as gorilla sees it: what is written waits for flush, so
// that several frames leave in one write. It sees to the write deadlines.
type wire struct {
	net.Conn
	timeout time.Duration
	pool    *sync.Pool // of *[]byte

	mu  sync.Mutex
	out *[]byte // nil while there is nothing
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		w.out = w.pool.Get().(*[]byte)
	}
	*w.out = append(*w.out, p...)
	return len(p), nil
}

// SetWriteDeadline does nothing: flush sets it.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

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
	if cap(*out) <= 4*chunk {
		*out = (*out)[:0]
		w.pool.Put(out)
	}
	return err
}

func (w *wire) send(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), chunk)
		if err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
			return err
		}
		if _, err := w.Conn.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// hijacker gives gorilla the wire in place of the socket.
type hijacker struct {
	http.ResponseWriter
	wire *wire
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.wire.Conn = conn
	return h.wire, rw, err
}
