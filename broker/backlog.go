package broker

import (
	"slices"
	"sync/atomic"
	"time"
)

// backlog is what waits for a client: for its cork, its window, or room in the
// guard's queue. It counts what it holds, whichever way an item comes and goes.
type backlog struct {
	queue     fifo[outgoing]
	bytes     int           // of what waits but for snapshots
	snapshots int           // messages of them
	all       *atomic.Int64 // bytes that wait for all clients
}

// A message of a snapshot shares its payload with others: what it takes by itself
// is counted among the bytes that wait for all. So many of them may wait for one
// client; somebody who reads ten thousand rooms comes nowhere near.
const (
	snapshotSize = 512
	maxSnapshots = 1 << 17
)

func (b *backlog) empty() bool { return b.queue.empty() }

// first is what has waited longest, until the backlog changes.
func (b *backlog) first() *outgoing { return &b.queue.items()[0] }

// fits reports whether out may wait, too, where bytes are the limit. A snapshot is
// not held to that: it comes once, and has to fit.
func (b *backlog) fits(out *outgoing, limit int) bool {
	if out.snapshot() {
		return b.snapshots < maxSnapshots
	}
	return b.bytes+out.size <= limit
}

func (b *backlog) push(out outgoing) {
	b.count(&out, 1)
	b.queue.push(out)
}

// shift takes out the first.
func (b *backlog) shift() {
	b.count(b.first(), -1)
	b.queue.remove(0)
}

// removeAll takes out every item that is.
func (b *backlog) removeAll(is func(*outgoing) bool) {
	b.queue.removeAll(func(out *outgoing) bool {
		gone := is(out)
		if gone {
			b.count(out, -1)
		}
		return gone
	})
}

// renewed reports whether of the snapshot for a filter some came after turn.
func (b *backlog) renewed(filter string, turn uint64) bool {
	return slices.ContainsFunc(b.queue.items(), func(out outgoing) bool { return out.turn > turn && out.how.stood == filter })
}

// expire takes out what has expired, and returns it with when the next one does,
// zero if none will.
func (b *backlog) expire() (expired []*message, next time.Time) {
	b.removeAll(func(out *outgoing) bool {
		at := out.m.expires
		switch {
		case at.IsZero():
		case out.m.expired():
			expired = append(expired, out.m)
			return true
		case next.IsZero() || at.Before(next):
			next = at
		}
		return false
	})
	return expired, next
}

// count counts out as come, n is 1, or gone, n is -1.
func (b *backlog) count(out *outgoing, n int) {
	if out.snapshot() {
		b.snapshots += n
		b.all.Add(int64(n * snapshotSize))
		return
	}
	b.bytes += n * out.size
	b.all.Add(int64(n * out.size))
}
