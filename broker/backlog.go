package broker

import "sync/atomic"

// backlog is what waits for a client: for its cork, its window, or room in the
// guard's queue. It counts what it holds, whichever way an item comes and goes.
type backlog struct {
	queue fifo[outgoing]
	bytes int           // of what waits
	all   *atomic.Int64 // bytes that wait for all clients
}

func (b *backlog) empty() bool { return b.queue.empty() }

// first is what has waited longest, until the backlog changes.
func (b *backlog) first() *outgoing { return &b.queue.items()[0] }

func (b *backlog) push(out outgoing) {
	b.count(out.size())
	b.queue.push(out)
}

// shift takes out the first.
func (b *backlog) shift() {
	b.count(-b.first().size())
	b.queue.remove(0)
}

// removeAll takes out every item that is.
func (b *backlog) removeAll(is func(*outgoing) bool) {
	b.queue.removeAll(func(out *outgoing) bool {
		gone := is(out)
		if gone {
			b.count(-out.size())
		}
		return gone
	})
}

func (b *backlog) count(n int) {
	b.bytes += n
	b.all.Add(int64(n))
}
