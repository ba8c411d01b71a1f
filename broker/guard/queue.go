package guard

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// longestWrite is what the socket is given at once. A receiver has Limits.Write
// to take that much, so what stalls half-way is cut as soon as what takes nothing.
const longestWrite = 32 << 10

// queue is what waits to be written to a connection. While something does it has a
// writer: a turn, that gives the socket what it takes at once, or a goroutine, that
// waits for it to take the rest.
type queue struct {
	conn     net.Conn
	eager    func([]byte) int // writes as much as the socket takes at once; nil where one has to wait
	soon     func(func())     // has a turn called
	turn     func()           // try; kept, since a new one for each burst is garbage
	limit    int
	all      *atomic.Int64 // bytes that wait in every queue
	wait     time.Duration
	last     func(error) // the writer's last act, once: nil when all has left
	deadline time.Time   // of the socket's writes; the writer's
	room     func()      // told when there is room again after the queue was full; may be nil

	mu       sync.Mutex
	waiting  *buffer // nil when nothing waits
	accepted uint64
	written  uint64
	full     bool // something was refused since there was room
	writing  bool // there is a writer; it stays true when the last one has gone
	closed   bool
}

// add takes both parts of a packet or nothing.
func (q *queue) add(head, body []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return net.ErrClosed
	}
	if len(head)+len(body) > q.limit-int(q.accepted-q.written) {
		q.full = true
		return ErrQueueFull
	}
	q.put(head, body)
	return nil
}

// close takes last words, beyond the limit if need be, and nothing after them.
// The writer closes the connection when all has left.
func (q *queue) close(words []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.put(words, nil)
		q.start()
	}
}

func (q *queue) put(head, body []byte) {
	n := len(head) + len(body)
	if n == 0 {
		return
	}
	if q.waiting == nil {
		q.waiting = newBuffer()
	}
	q.waiting.b = append(append(q.waiting.b, head...), body...)
	q.accepted += uint64(n)
	q.all.Add(int64(n))
	q.start()
}

func (q *queue) start() {
	switch {
	case q.writing:
		return
	case q.eager != nil:
		q.soon(q.turn)
	default:
		go q.write(nil, 0)
	}
	q.writing = true
}

// try is a turn: it sends what waits as far as the socket takes it at once. It leaves
// the rest, and the end, to a goroutine.
func (q *queue) try() {
	b, _ := q.next()
	if b == nil { // the end
		go q.last(nil)
		return
	}
	n := q.eager(b.b[:min(len(b.b), longestWrite)])
	q.sent(n)
	if n < len(b.b) {
		go q.write(b, n)
		return
	}
	b.free()
	q.tellRoom()
	if q.more() {
		q.soon(q.turn)
	}
}

// write sends what is left of b, of which n bytes have left, and what waits, until
// nothing does.
func (q *queue) write(b *buffer, n int) {
	for {
		if b == nil {
			more := false
			if b, more = q.next(); b == nil {
				if !more {
					q.last(nil)
				}
				return
			}
		}
		err := q.send(b.b[n:])
		b.free()
		if err != nil {
			q.drop()
			q.last(err)
			return
		}
		q.tellRoom()
		b, n = nil, 0
	}
}

// tellRoom is called when all that waited was sent.
func (q *queue) tellRoom() {
	if q.wasFull() && q.room != nil {
		q.room()
	}
}

// wasFull reports whether something was refused since it was asked last.
func (q *queue) wasFull() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.full
	q.full = false
	return was
}

// next is all that waits. When nothing does, more says whether something may
// yet come; for then there will be another writer.
func (q *queue) next() (b *buffer, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, q.waiting = q.waiting, nil
	if b == nil {
		q.writing = q.closed
	}
	return b, !q.closed
}

// more reports whether a turn is to follow.
func (q *queue) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = q.waiting != nil || q.closed
	return q.writing
}

func (q *queue) send(b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), longestWrite)]
		if err := q.putOff(); err != nil {
			return fmt.Errorf("guard: write: %w", err)
		}
		n, err := q.conn.Write(part)
		q.sent(n)
		if err != nil && isTimeout(err) {
			return fmt.Errorf("%w: took %d of %d bytes in %v", ErrSlowReceiver, n, len(part), q.wait)
		}
		if err != nil {
			return fmt.Errorf("guard: write: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// sent counts bytes that the socket has taken.
func (q *queue) sent(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.written += uint64(n)
	q.all.Add(-int64(n))
}

// putOff gives the next write its time. To set a deadline costs; one that is not a
// sixteenth older does as well.
func (q *queue) putOff() error {
	next := time.Now().Add(q.wait)
	if next.Sub(q.deadline) <= q.wait/16 {
		return nil
	}
	q.deadline = next
	return q.conn.SetWriteDeadline(next)
}

// drop lets go what will never leave.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.waiting = true, nil
	q.all.Add(-int64(q.accepted - q.written))
}

// counts are the bytes taken, and of those the ones given to the socket.
func (q *queue) counts() (accepted, written uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.accepted, q.written
}
