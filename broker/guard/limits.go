package guard

import (
	"math"
	"sync/atomic"
	"time"
)

// largest is what a packet of MQTT can be: 268,435,455 bytes and its header.
const largest = 268_435_455 + 5

// forever is the deadline of who asked for none; 146 years do not overflow.
const forever = time.Duration(1 << 62)

// Limits bound what one client may cost. A field that is zero has its default,
// one that is negative sets no limit.
type Limits struct {
	// Handshake is the time from New until Admit, and the time that a packet
	// which has begun may take to arrive. 10 s.
	Handshake time.Duration
	// Unauthenticated bounds one packet, and everything together, that comes
	// before Admit, in bytes. 8 KiB.
	Unauthenticated int
	// Packet bounds a packet after Admit, its header included, in bytes.
	// 66 KiB: a message of 64 KiB and 2 KiB for header, topic and properties.
	Packet int
	// Queue bounds the bytes that wait to be written. 1 MiB.
	Queue int
	// Write is how long one write to the socket, of at most 32 KiB, may wait. 5 s.
	Write time.Duration

	// Packets is how many may come a second, the awaited acknowledgements left
	// out, and four times as many at once. Who is over it is not read from for a
	// while; who goes on for a second is cut off. 500.
	Packets int

	Levels     int // of a topic or filter. 8
	TopicBytes int // of a topic or filter. 256
	Filters    int // of a SUBSCRIBE or UNSUBSCRIBE. 8

	UserProperties    int // of a packet. 8
	UserPropertyBytes int // of a packet, names and values together. 1 KiB

	// Queued is where the bytes that wait in the queues of all are counted; nil:
	// nowhere.
	Queued *atomic.Int64

	// Soon has a connection's turn to write called soon, with others' on few
	// goroutines. A turn never waits, and there is one at a time for a connection. nil:
	// each is called on a goroutine of its own.
	Soon func(turn func())
}

func (l Limits) withDefaults() Limits {
	if l.Queued == nil {
		l.Queued = new(atomic.Int64)
	}
	if l.Soon == nil {
		l.Soon = func(turn func()) { go turn() }
	}
	limit(&l.Handshake, 10*time.Second, forever)
	limit(&l.Unauthenticated, 8<<10, largest)
	limit(&l.Packet, 66<<10, largest)
	limit(&l.Queue, 1<<20, math.MaxInt)
	limit(&l.Write, 5*time.Second, forever)
	if l.Packets == 0 {
		l.Packets = 500
	}
	limit(&l.Levels, 8, math.MaxInt)
	limit(&l.TopicBytes, 256, math.MaxInt)
	limit(&l.Filters, 8, math.MaxInt)
	limit(&l.UserProperties, 8, math.MaxInt)
	limit(&l.UserPropertyBytes, 1<<10, math.MaxInt)
	return l
}

func limit[T int | time.Duration](v *T, standard, none T) {
	switch {
	case *v == 0:
		*v = standard
	case *v < 0:
		*v = none
	}
}
