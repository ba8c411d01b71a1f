package rest

import (
	"sync"

	"github.com/beckon-rtc/beckon/bridge"
)

// queue is what waits to be written to a stream. The zero value with a limit and
// more is ready.
type queue struct {
	limit int           // bytes that may wait, exceeded by the last frame, and what follows it, only
	more  chan struct{} // of one: something was added, or it ended

	mu     sync.Mutex // guards what follows
	frames []bridge.Frame
	size   int
	ended  bool // nothing more is taken
}

func (q *queue) push(frame bridge.Frame) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ended:
		return bridge.ErrEnding
	case q.size >= q.limit && !frame.Follows:
		return bridge.ErrFull
	}
	q.frames = append(q.frames, frame)
	q.size += frame.Cost()
	q.signal()
	return nil
}

// end takes nothing more. What waits is still there, unless it is to be dropped.
func (q *queue) end(drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	if drop {
		q.frames = nil
	}
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take returns the next frame, if there is one; over says that none will come. It has
// room for another when the caller says wrote.
func (q *queue) take() (frame bridge.Frame, ok, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		q.frames = nil
		return frame, false, q.ended
	}
	frame, q.frames[0] = q.frames[0], bridge.Frame{}
	q.frames = q.frames[1:]
	return frame, true, false
}

// first is the frame that waits longest, if there is one.
func (q *queue) first() (frame bridge.Frame, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		return frame, false
	}
	return q.frames[0], true
}

func (q *queue) isOver() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ended
}

func (q *queue) wrote(frame bridge.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size -= frame.Cost()
}
