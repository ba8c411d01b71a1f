package guard

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics/pace"
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

	reading sync.Mutex // held by Next
	in      stream
	early   int  // bytes read before Admit
	begun   bool // a packet has begun and its deadline is set
	pace    *pace.Budget

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
// and PUBCOMP of the client, which Next leaves out, and says whether it was
// awaited. It is called by Next, in the order of the stream; it must not block,
// and not call Next. nil drops them.
//
// The Conn starts no goroutine and reads nothing by itself. It must be closed.
func New(c net.Conn, l Limits, onAck func(Ack) (awaited bool)) *Conn {
	l = l.withDefaults()
	g := &Conn{conn: c, limits: l, done: make(chan struct{}), halt: make(chan struct{}), pace: pace.New(l.Packets, 4*l.Packets), handshake: time.Now().Add(l.Handshake)}
	g.in = stream{checker: checker{limits: l}, onAck: onAck}
	g.out = queue{conn: c, limit: l.Queue, all: l.Queued, wait: l.Write, last: g.finish}
	if e, ok := c.(interface{ Eager() func([]byte) int }); ok {
		g.out.eager = e.Eager()
	}
	g.out.soon, g.out.turn = l.Soon, g.out.try
	_ = c.SetReadDeadline(g.handshake) // a connection that fails here fails again in Next
	return g
}

// Admit says that the client's CONNECT was accepted: the later limits hold from
// now on, and the deadlines that the owner sets, or has set, instead of the
// handshake's. To be called before the next packet is asked for.
func (c *Conn) Admit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admitted.Store(true)
	if !c.packet.IsZero() { // the wait was not the client's
		c.packet = time.Now().Add(c.limits.Handshake)
	}
	_ = c.setReadDeadline() // it fails on a socket that has ended, which Next will find
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
// goroutine of the Conn is left but the one that was in Next.
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

// Next is the next packet of the client, whole, that obeys the standard and the
// limits. It leaves the acknowledgements out. The packet is good until the next
// call. After DISCONNECT it says [io.EOF], whatever follows.
//
// An error is final. A [*Violation] and a passed deadline end the connection.
func (c *Conn) Next() ([]byte, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		if err := c.over(); err != nil {
			c.in.free()
			return nil, err
		}
		packet, bad := c.in.next(c.limit())
		if bad != nil {
			return nil, c.refuse(bad)
		}
		if packet != nil {
			c.note(packet[0] >> 4)
			return packet, nil
		}
		if c.in.left {
			return nil, io.EOF
		}
		c.came()
		if err := c.receive(); err != nil {
			return nil, err
		}
	}
}

// note notes what others ask about the client.
func (c *Conn) note(kind byte) {
	switch kind {
	case connect:
		c.version.Store(uint32(c.in.version))
	case disconnect:
		c.mu.Lock()
		c.left, c.reason = c.in.left, c.in.reason
		c.mu.Unlock()
	}
}

// receive reads from the socket once.
func (c *Conn) receive() error {
	if bad := c.slow(); bad != nil {
		return c.refuse(bad)
	}
	admitted := c.admitted.Load()
	p := c.in.room(admitted)
	if !admitted {
		left := c.limits.Unauthenticated - c.early
		if left <= 0 {
			return c.refuse(violation(tooLarge, "more than %d bytes before CONNECT was accepted", c.limits.Unauthenticated))
		}
		p = p[:min(len(p), left)]
	}
	n, err := c.conn.Read(p)
	c.in.arrived(n)
	if !admitted {
		c.early += n
	}
	if n == 0 && err != nil {
		return c.lost(err)
	}
	return nil
}

func (c *Conn) limit() int {
	if c.admitted.Load() {
		return c.limits.Packet
	}
	return c.limits.Unauthenticated
}

// came sets the deadlines anew, since whole packets came, which prove that the
// client lives [MQTT-3.1.2-22], or one has begun. To set one costs; what comes
// within a sixteenth of the keep-alive after what set it last does not.
func (c *Conn) came() {
	some, begun := c.in.some, c.in.begun()
	if !some && begun == c.begun {
		return
	}
	c.in.some = false
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	next := now.Add(c.period)
	alive := some && !c.keepAlive.IsZero() && next.Sub(c.keepAlive) > c.period/16
	if alive {
		c.keepAlive = next
	}
	if begun || c.begun {
		c.packet = time.Time{}
	}
	if begun {
		c.packet = now.Add(c.limits.Handshake)
	}
	if alive || begun || c.begun {
		_ = c.setReadDeadline()
	}
	c.begun = begun
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
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.out.add(p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Send writes a packet that is in two parts, like Write.
func (c *Conn) Send(head, body []byte) error { return c.out.add(head, body) }

// LocalAddr is that of the guarded connection.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr is that of the guarded connection.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }
