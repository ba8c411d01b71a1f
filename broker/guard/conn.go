package guard

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Conn is the connection of one MQTT client behind the guard.
type Conn struct {
	conn   net.Conn
	limits Limits
	out    queue
	done   chan struct{}
	halt   chan struct{} // closed when the end begins

	version  atomic.Uint32
	admitted atomic.Bool

	reading sync.Mutex // held by Read
	in      stream
	early   int  // bytes read before Admit
	begun   bool // a packet has begun and its deadline is set
	pace    pace

	mu        sync.Mutex
	handshake time.Time     // deadline of it
	keepAlive time.Time     // the owner's read deadline, zero: none
	period    time.Duration // how far ahead that was when it was set
	packet    time.Time     // deadline of the packet that has begun, zero: none has
	ended     bool
	err       error // why
	eof       bool  // the client sends no more
	left      bool
	reason    byte
	lateness  *time.Timer // ends the end
}

// New guards c, whose handshake begins now. onAck is given the PUBACK, PUBREC
// and PUBCOMP of the client, which Read leaves out, and says whether it was
// awaited. It is called by Read, in the order of the stream; it must not block,
// and not call Read. nil drops them.
//
// The Conn starts no goroutine and reads nothing by itself. It must be closed.
func New(c net.Conn, l Limits, onAck func(Ack) (awaited bool)) *Conn {
	l = l.withDefaults()
	g := &Conn{conn: c, limits: l, done: make(chan struct{}), halt: make(chan struct{}), pace: newPace(l.Packets), handshake: time.Now().Add(l.Handshake)}
	g.in = stream{checker: checker{limits: l}, onAck: onAck}
	g.out = queue{conn: c, limit: l.Queue, all: l.Queued, wait: l.Write, last: g.finish}
	_ = c.SetReadDeadline(g.handshake) // a connection that fails here fails again in Read
	return g
}

// Admit says that the client's CONNECT was accepted: the later limits hold from
// now on, and the deadlines that the owner sets, or has set, instead of the
// handshake's. To be called before the owner's next Read.
func (c *Conn) Admit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admitted.Store(true)
	if !c.packet.IsZero() { // the wait was not the client's
		c.packet = time.Now().Add(c.limits.Handshake)
	}
	_ = c.setReadDeadline() // it fails on a socket that has ended, which Read will find
}

// Version is the protocol level of the client: 3, 4, 5, or 0 before CONNECT.
func (c *Conn) Version() byte { return byte(c.version.Load()) }

// Left reports whether the client has said DISCONNECT, and with which reason
// code: 0x04 asks for its will. In 3.1.1 the code is 0.
func (c *Conn) Left() (reason byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason, c.left
}

// Err is why the guard ended the connection: a [*Violation], [ErrSlowReceiver]
// with what it took, or what the socket said to a write. It is nil while the
// connection lives, and when the owner or the client ended it.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when the connection has ended, its socket is closed and no
// goroutine of the Conn is left but the one that was in Read.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Queued is the length of the stream that Write has accepted since New, and
// Written that of what the socket has taken of it. A packet has left for the
// socket when Written has reached what Queued was right after its Write.
func (c *Conn) Queued() uint64 {
	n, _ := c.out.counts()
	return n
}

// Written is explained at [Conn.Queued].
func (c *Conn) Written() uint64 {
	_, n := c.out.counts()
	return n
}

// Read hands on packets that are whole and obey the standard and the limits,
// without the acknowledgements; before Admit one packet at a time. A packet
// longer than p comes in several Reads. After DISCONNECT it says [io.EOF],
// whatever follows.
//
// An error is final. A [*Violation] and a passed deadline end the connection.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := c.over(); err != nil {
			c.in.free()
			return 0, err
		}
		if n := c.in.hand(p); n > 0 {
			return n, nil
		}
		if c.in.left {
			return 0, io.EOF
		}
		some, bad := c.in.sift(c.limit(), !c.admitted.Load())
		if bad != nil {
			return 0, c.refuse(bad)
		}
		c.came(some, c.in.good > 0)
		if some {
			continue
		}
		n, err := c.receive(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// receive reads from the socket once: into p, if that is a fair size and
// nothing has to be put together first, so that whole packets are not copied.
func (c *Conn) receive(p []byte) (int, error) {
	if bad := c.slow(); bad != nil {
		return 0, c.refuse(bad)
	}
	direct := c.in.rest == nil && len(p) >= 512
	if !direct {
		p = c.in.room()
	}
	admitted := c.admitted.Load()
	if !admitted {
		left := c.limits.Unauthenticated - c.early
		if left <= 0 {
			return 0, c.refuse(violation(tooLarge, "more than %d bytes before CONNECT was accepted", c.limits.Unauthenticated))
		}
		p = p[:min(len(p), left)]
	}
	n, err := c.conn.Read(p)
	if !admitted {
		c.early += n
	}
	switch {
	case n > 0 && direct:
		keep, some, bad := c.in.siftInto(p[:n], c.limit(), !c.admitted.Load())
		if bad != nil {
			return 0, c.refuse(bad)
		}
		c.came(some, keep > 0)
		return keep, nil
	case n > 0:
		c.in.arrived(n)
		return 0, nil
	case err != nil:
		return 0, c.lost(err)
	}
	return 0, nil
}

func (c *Conn) limit() int {
	if c.admitted.Load() {
		return c.limits.Packet
	}
	return c.limits.Unauthenticated
}

// came notes what has just come: whether whole packets did, and whether any of
// them is handed on, upon which the owner sets the next deadline itself. For
// acknowledgements it cannot, and they prove as well that the client lives
// [MQTT-3.1.2-22].
func (c *Conn) came(some, handed bool) {
	begun := c.in.begun()
	if some {
		c.version.Store(uint32(c.in.version))
	}
	if !c.in.left && begun == c.begun && (!some || handed && !begun) {
		return
	}
	c.begun = begun
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.reason = c.in.left, c.in.reason
	now := time.Now()
	if some && !c.keepAlive.IsZero() {
		c.keepAlive = now.Add(c.period)
	}
	c.packet = time.Time{}
	if begun {
		c.packet = now.Add(c.limits.Handshake)
	}
	_ = c.setReadDeadline()
}

// lost ends the stream for what the socket said.
func (c *Conn) lost(err error) error {
	if isTimeout(err) {
		if over := c.over(); over != nil {
			return over
		}
		return c.refuse(c.late())
	}
	c.mu.Lock()
	c.eof = true
	ended := c.ended
	c.mu.Unlock()
	switch {
	case ended:
		return c.over()
	case errors.Is(err, io.EOF) && c.in.begun():
		return io.ErrUnexpectedEOF
	}
	return err
}

// over is the error of a connection that has ended.
func (c *Conn) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.ended:
		return nil
	case c.err != nil:
		return c.err
	}
	return net.ErrClosed
}

// refuse ends the connection because of what the client did, and tells it.
func (c *Conn) refuse(bad *Violation) error {
	c.in.free()
	c.end(bad, c.in.farewell(bad, c.admitted.Load()))
	return c.over()
}

// OnRoom has f called when there is room again after Write said [ErrQueueFull].
// It is called by the goroutine that writes to the socket, and must not block.
// To be set before the first Write.
func (c *Conn) OnRoom(f func()) { c.out.room = f }

// Write takes p whole, or not at all with [ErrQueueFull], and never waits. It
// has not left yet: see [Conn.Queued].
func (c *Conn) Write(p []byte) (int, error) { return c.out.add(p) }

// LocalAddr is that of the guarded connection.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr is that of the guarded connection.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }
