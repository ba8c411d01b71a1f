package door

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// peeker is a connection whose first bytes can be looked at before they are
// read. It keeps them, not a buffer, since it stays as long as the connection.
type peeker struct {
	net.Conn
	ahead  []byte
	remote net.Addr // as a proxy has said; nil: that of Conn
}

// peek returns the first n bytes.
func (p *peeker) peek(n int) ([]byte, error) {
	for len(p.ahead) < n {
		more := make([]byte, n-len(p.ahead))
		got, err := p.Conn.Read(more)
		p.ahead = append(p.ahead, more[:got]...)
		if err != nil && len(p.ahead) < n {
			return nil, err
		}
	}
	return p.ahead[:n], nil
}

// first is the first byte.
func (p *peeker) first() (byte, error) {
	b, err := p.peek(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (p *peeker) Read(b []byte) (int, error) {
	if len(p.ahead) == 0 || len(b) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.ahead)
	if p.ahead = p.ahead[n:]; len(p.ahead) == 0 {
		p.ahead = nil
	}
	return n, nil
}

func (p *peeker) RemoteAddr() net.Addr {
	if p.remote != nil {
		return p.remote
	}
	return p.Conn.RemoteAddr()
}

// conn is a connection at the door. Until it is admitted it has a place under
// the caps, and no read from it waits beyond its limit.
//
//	accept --> waiting --admit (first write, or request read)--> admitted
//	               ^---------- hold (a request upgrades) ----------'
type conn struct {
	peeker          // over the socket, or TLS over it
	raw    net.Conn // the socket
	door   *Door

	proxied bool          // the socket is of a trusted proxy
	said    encryption    // by its PROXY header, about the client's side
	arrived bool          // counted in all, but for no client yet
	refused *topics.Error // what its client is told, before it is closed

	unserved *topics.Error // by [Config.Admit]

	from    netip.Prefix // whom it is counted for; not valid: nobody. With what follows guarded by door.mu
	counted bool

	admitted atomic.Bool // read on every write
	held     atomic.Bool // writes do not admit it: the user says when
	known    atomic.Bool // its client was authenticated, see Known

	mu    sync.Mutex // guards what follows
	since time.Time  // accept, or when the latest request was read
	asked time.Time  // the read deadline that its user set
	idle  bool       // of HTTP, and waits for another request
	wake  func()     // ends a pause of the reader; nil: there is none

	closed bool

	bytes  *rate.Limiter // nil: no limit. This and what follows is the reader's
	resume time.Time     // not to be read from before
	lent   *bridge.Lent  // nil before the first ReadLent, and where there is none

	requests *bridge.Pace // nil before the second one
}

func newConn(d *Door, raw net.Conn) *conn {
	c := &conn{peeker: peeker{Conn: raw}, raw: raw, door: d, since: time.Now()}
	from := addrOf(raw.RemoteAddr())
	if c.proxied = d.trusts(from); !c.proxied { // of a proxy's it is not known yet
		c.from = countedFor(from)
	}
	if n := d.config.Bytes; n > 0 {
		c.bytes = rate.NewLimiter(rate.Limit(n), atOnce*n)
	}
	raw.SetDeadline(c.limit())
	return c
}

// countedFor is the address, or the /64 network of IPv6, that a limit per
// address applies to: not valid for loopback, where a reverse proxy sits.
func countedFor(ip netip.Addr) netip.Prefix {
	if !ip.IsValid() || ip.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// addrOf is the address of a TCP connection; not valid for what is none.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

func (c *conn) limit() time.Time { return c.since.Add(c.door.config.Handshake) }

// admit ends the waiting: the place under the caps is free, and the read
// deadline is the one that was asked for.
func (c *conn) admit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.admitted.Load() {
		return
	}
	c.admitted.Store(true)
	c.held.Store(false)
	c.door.mu.Lock()
	c.door.uncount(c)
	c.door.mu.Unlock()
	c.peeker.SetReadDeadline(c.asked)
}

// request admits c, since a whole request was read from it. One that comes again
// has the time that the connection had.
func (c *conn) request() (again bool) {
	if again = c.admitted.Load(); again {
		c.mu.Lock()
		c.since = time.Now()
		c.mu.Unlock()
	}
	c.admit()
	return again
}

// hold makes an admitted connection wait again, which is about to speak a
// protocol of its own with the client at that address, or whose request has to be
// authenticated, and then none of it is new. Its user calls admit. The error is why
// there is no place, for the client.
func (c *conn) hold(client netip.Addr, isNew bool) *topics.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.uncount(c)
	c.from = countedFor(client)
	if isNew {
		if err := c.door.config.Admit(); err != nil {
			return err
		}
		if c.door.trusts(addrOf(c.RemoteAddr())) { // a connection of the proxy, for many clients
			if refused, _ := c.door.arrive(c); refused != nil {
				return refused
			}
		}
	}
	if c.door.closed.Err() != nil {
		return errClosed
	}
	if !c.door.count(c) {
		return errManyWait
	}
	c.held.Store(true)
	c.admitted.Store(false)
	return nil
}

var (
	errClosed   = topics.Errorf(topics.Unavailable, "the server is going away")
	errManyWait = topics.Errorf(topics.Unavailable, "too many connections are not authenticated yet; try again")
)

func (c *conn) Write(b []byte) (int, error) {
	c.answered()
	n, err := c.peeker.Conn.Write(b)
	if err != nil {
		c.late(err, true)
	}
	return n, err
}

// answered admits c, since something is written to it, unless its user says when.
func (c *conn) answered() {
	if !c.admitted.Load() && !c.held.Load() {
		c.admit()
	}
}

// Eager is [bridge.Eager] for c: nil over TLS, whose records have to be whole.
func (c *conn) Eager() func([]byte) int {
	if c.encrypted() {
		return nil
	}
	write := bridge.Eager(c.raw)
	if write == nil {
		return nil
	}
	return func(b []byte) int {
		c.answered()
		return write(b)
	}
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.peeker.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		t = c.idleUntil(t)
	}
	c.asked = t
	if c.wake != nil {
		c.wake()
	}
	return c.peeker.SetReadDeadline(c.deadline())
}

// deadline is that of reads. With c.mu held.
func (c *conn) deadline() time.Time {
	if limit := c.limit(); !c.admitted.Load() && (c.asked.IsZero() || c.asked.After(limit)) {
		return limit
	}
	return c.asked
}

func (c *conn) Close() error {
	c.door.leave(c)
	c.mu.Lock()
	c.closed = true
	if c.wake != nil {
		c.wake()
	}
	c.mu.Unlock()
	return c.peeker.Conn.Close()
}

// CloseWrite says that nothing more comes. What was written last is read then,
// where closing at once could turn it into a reset.
func (c *conn) CloseWrite() error {
	if half, ok := c.peeker.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn is the socket, for who cannot wait until TLS has said its farewell.
func (c *conn) NetConn() net.Conn { return c.raw }

// secured is a conn over TLS. Its ConnectionState, the client's certificate in
// it, is what net/http looks for to set Request.TLS, and what tells a broker.
type secured struct {
	*conn
	tls *tls.Conn
}

func (s secured) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// unsecured is the conn that its user has as c, see handedOn.
func unsecured(c net.Conn) *conn {
	if s, ok := c.(secured); ok {
		return s.conn
	}
	return c.(*conn)
}

// encrypted reports whether TLS is on c.
func (c *conn) encrypted() bool {
	_, ok := c.peeker.Conn.(*tls.Conn)
	return ok
}

// handedOn is c as its user gets it.
func (c *conn) handedOn() net.Conn {
	if t, ok := c.peeker.Conn.(*tls.Conn); ok {
		return secured{c, t}
	}
	return c
}
