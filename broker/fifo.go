package broker

import "slices"

// fifo is a queue that keeps its space, unless it took much.
type fifo[T any] struct {
	all  []T
	gone int // of all, at the front
}

// keptFifo is how many places a fifo keeps when it is empty.
const keptFifo = 16

// items are what is in the queue, until it changes.
func (q *fifo[T]) items() []T { return q.all[q.gone:] }

func (q *fifo[T]) empty() bool { return q.gone == len(q.all) }

// push appends v. What is there is moved to the front only when half of the space is
// free: it is moved once for each time that it is passed, however long the queue.
func (q *fifo[T]) push(v T) {
	if q.gone > 0 && len(q.all) == cap(q.all) && q.gone >= len(q.all)/2 {
		q.all = slices.Delete(q.all, 0, q.gone)
		q.gone = 0
	}
	q.all = append(q.all, v)
}

// remove takes out the i-th item, most often the first.
func (q *fifo[T]) remove(i int) {
	if i > 0 {
		q.all = slices.Delete(q.all, q.gone+i, q.gone+i+1)
		return
	}
	clear(q.all[q.gone : q.gone+1])
	if q.gone++; q.empty() {
		q.all, q.gone = q.all[:0], 0
		if cap(q.all) > keptFifo {
			q.all = nil
		}
	}
}

// removeAll takes out every item that is.
func (q *fifo[T]) removeAll(is func(*T) bool) {
	q.all = slices.Delete(q.all, 0, q.gone)
	q.gone = 0
	q.all = slices.DeleteFunc(q.all, func(v T) bool { return is(&v) })
}
