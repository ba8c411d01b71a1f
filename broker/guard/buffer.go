package guard

import "sync"

// buffer holds bytes on their way. One is held only while there are some, so
// that an idle connection has none.
type buffer struct{ b []byte }

// Buffers of more than this are left to the garbage collector.
const keptBuffer = 16 << 10

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) free() {
	if cap(b.b) <= keptBuffer {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}
