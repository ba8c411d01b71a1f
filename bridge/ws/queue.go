package ws

import (
	"sync"

	"github.com/beckon-rtc/beckon/bridge"
)

// queue is what waits to be written to a connection. Whoever adds something is
// told whether a writer has to be started, which takes until nothing is left.
// The zero value with a limit is ready.
type queue struct {
	limit int // bytes that may wait, exceeded by the last frame, and what follows it, only

	mu      sync.Mutex
	frames  []bridge.Frame
	size    int    // bytes of frames that wait or are being written
	pong    []byte // payload of the newest ping, nil where none came
	ping    bool   // a ping is to be sent
	last    []byte // payload of the close frame, which is the last of all; nil: none yet
	closed  bool   // nothing more is taken
	writing bool   // there is a writer
}

// load is what leaves together.
type load struct {
	frames []bridge.Frame
	size   int
	pong   []byte
	ping   bool
	last   []byte
}

// push adds a text frame.
func (q *queue) push(frame bridge.Frame) (start bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return false, bridge.ErrEnding
	case q.size >= q.limit && !frame.Follows:
		return false, bridge.ErrFull
	}
	q.frames = append(q.frames, frame)
	q.size += frame.Cost()
	return q.start(), nil
}

// pushPong adds the answer to a ping, in place of one that still waits.
func (q *queue) pushPong(payload string) (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.pong = append(make([]byte, 0, len(payload)), payload...)
	return q.start()
}

func (q *queue) pushPing() (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.ping = true
	return q.start()
}

// end adds the close frame, after what waits or instead of it. The first counts.
func (q *queue) end(payload []byte, drop bool) (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if drop {
		q.drop()
	}
	if q.closed {
		return false
	}
	q.closed, q.last = true, payload
	return q.start()
}

// kill gives up what waits: the socket is of no use.
func (q *queue) kill() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.last = true, nil
	q.drop()
}

func (q *queue) drop() {
	for _, f := range q.frames {
		q.size -= f.Cost()
	}
	q.frames, q.pong, q.ping = nil, nil, false
}

func (q *queue) start() bool {
	if q.writing {
		return false
	}
	q.writing = true
	return true
}

// take returns about chunk bytes to write. When there is nothing the writer has
// to stop.
func (q *queue) take(chunk int) (l load, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.frames) && l.size < chunk {
		l.size += q.frames[n].Cost()
		n++
	}
	l.frames, q.frames = q.frames[:n:n], q.frames[n:]
	if len(q.frames) == 0 {
		q.frames = nil
		l.last, q.last = q.last, nil
	}
	l.pong, l.ping = q.pong, q.ping
	q.pong, q.ping = nil, false
	ok = n > 0 || l.pong != nil || l.ping || l.last != nil
	q.writing = ok
	return l, ok
}

// wrote makes room for as many bytes as were written, and reports whether there is
// more. When there is nothing the writer has to stop.
func (q *queue) wrote(size int) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size -= size
	q.writing = len(q.frames) > 0 || q.pong != nil || q.ping || q.last != nil
	return q.writing
}
