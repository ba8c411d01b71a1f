package turn

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// How long a client over TCP may take.
const (
	patience  = 10 * time.Second // to make an allocation, from the beginning
	idle      = 10 * time.Minute // between two frames, then; allocations are kept by one
	writeTime = 5 * time.Second
)

// How many connections may be without an allocation.
const (
	maxWaiting           = 1000
	maxWaitingPerAddress = 20 // IPv6: a /64; loopback has no such limit
)

// streams is a TCP listener, as pion accepts from it. TLS is told by its first
// byte.
type streams struct {
	net.Listener
	tls    *tls.Config // nil: none
	relays *relays
	closed chan struct{}
	once   sync.Once
	open   sync.WaitGroup // one for each connection

	mu       sync.Mutex // guards what is below
	shut     bool
	patience time.Duration
	byClient map[connection]*stream
	waiting  map[netip.Prefix]int // without an allocation
	total    int                  // of them
}

func newStreams(l net.Listener, config *tls.Config, t *relays) *streams {
	return &streams{
		Listener: l, tls: config, relays: t, closed: make(chan struct{}), patience: patience,
		byClient: make(map[connection]*stream), waiting: make(map[netip.Prefix]int),
	}
}

// Accept returns the next connection that there is room for. An error ends
// pion's loop for good, so only that of the closed listener is returned.
func (l *streams) Accept() (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; {
		conn, err := l.Listener.Accept()
		if err == nil {
			if s := l.admit(conn); s != nil {
				return s, nil
			}
			_ = conn.Close()
			delay = 5 * time.Millisecond
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		again := time.NewTimer(delay) // out of descriptors, perhaps
		select {
		case <-again.C:
			delay = min(2*delay, time.Second)
		case <-l.closed:
			again.Stop()
			return nil, net.ErrClosed
		}
	}
}

func (l *streams) admit(conn net.Conn) *stream {
	s := &stream{
		Conn: conn, listener: l, key: newConnection(conn.RemoteAddr(), conn.LocalAddr()),
		network: networkOf(addrPort(conn.RemoteAddr()).Addr()), wire: conn,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.deadline = time.Now().Add(l.patience)
	if l.shut || l.total >= maxWaiting || s.network.IsValid() && l.waiting[s.network] >= maxWaitingPerAddress {
		return nil
	}
	l.byClient[s.key] = s
	l.wait(s, 1)
	l.open.Add(1)
	return s
}

// wait counts a connection that has no allocation, or no longer waits for one.
func (l *streams) wait(s *stream, change int) {
	s.waits = change > 0
	l.total += change
	if !s.network.IsValid() {
		return
	}
	if l.waiting[s.network] += change; l.waiting[s.network] <= 0 {
		delete(l.waiting, s.network)
	}
}

// networkOf is what counts as one address; none for loopback, where a proxy may
// sit.
func networkOf(a netip.Addr) netip.Prefix {
	if a.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// allocated notes that a client has an allocation now, or none any more.
func (l *streams) allocated(c connection, has bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.byClient[c]
	if s == nil || s.waits == !has {
		return
	}
	if has {
		l.wait(s, -1)
		return
	}
	l.wait(s, 1)
	s.deadline = time.Now().Add(l.patience)
	_ = s.Conn.SetReadDeadline(s.deadline)
}

// Close ends the listener and all its connections, and waits for pion to leave
// them.
func (l *streams) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
		l.mu.Lock()
		l.shut = true
		for _, s := range l.byClient {
			_ = s.Conn.Close()
		}
		l.mu.Unlock()
	})
	l.open.Wait()
	return err
}

// stream is a connection, as pion reads and writes it: a Read is a whole frame.
// A frame whose length runs over would keep pion 5.1.0 busy for ever.
type stream struct {
	net.Conn // the TCP connection
	listener *streams
	key      connection
	network  netip.Prefix
	wire     net.Conn // it, or TLS over it; set before the first frame
	frames   *bufio.Reader
	once     sync.Once

	deadline time.Time // guarded by listener.mu: when it must have an allocation
	waits    bool      // guarded by listener.mu
}

func (s *stream) Read(p []byte) (int, error) {
	if err := s.setDeadline(); err != nil {
		return 0, err
	}
	if s.frames == nil {
		if err := s.begin(); err != nil {
			return 0, err
		}
	}
	head, err := s.frames.Peek(4)
	if err != nil {
		return 0, err
	}
	size, err := frameSize(head)
	if err != nil {
		return 0, err
	}
	if size > len(p) {
		return 0, errFrame
	}
	frame, err := s.frames.Peek(size)
	if err != nil {
		return 0, err
	}
	copy(p, frame)
	return s.frames.Discard(size)
}

func (s *stream) setDeadline() error {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	if s.waits {
		return s.Conn.SetReadDeadline(s.deadline)
	}
	return s.Conn.SetReadDeadline(time.Now().Add(idle))
}

// begin looks whether the client speaks TLS.
func (s *stream) begin() error {
	const handshake = 0x16 // RFC 8446, 5.1
	first := bufio.NewReaderSize(s.Conn, 2*maxFrame)
	b, err := first.Peek(1)
	if err != nil {
		return err
	}
	if b[0] == handshake {
		if s.listener.tls == nil {
			return errFrame
		}
		s.wire = tls.Server(peeked{s.Conn, first}, s.listener.tls)
		first = bufio.NewReaderSize(s.wire, 2*maxFrame)
	}
	s.frames = first
	return nil
}

// peeked is a connection of which a reader has read the beginning.
type peeked struct {
	net.Conn
	reader *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.reader.Read(b) }

// Write sends a frame. A client that does not read is cut off.
func (s *stream) Write(p []byte) (int, error) {
	noteLifetime(s.listener.relays, p, s.RemoteAddr(), s.LocalAddr())
	_ = s.Conn.SetWriteDeadline(time.Now().Add(writeTime))
	n, err := s.wire.Write(p)
	if err != nil {
		_ = s.Conn.Close()
	}
	return n, err
}

// Close is called by pion when it leaves the connection.
func (s *stream) Close() error {
	s.once.Do(func() {
		_ = s.Conn.Close()
		l := s.listener
		l.mu.Lock()
		if s.waits {
			l.wait(s, -1)
		}
		delete(l.byClient, s.key)
		l.mu.Unlock()
		l.open.Done()
	})
	return nil
}

// connectionOf is the connection from a client.
func (l *streams) connectionOf(from net.Addr) connection {
	want := addrPort(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.byClient {
		if c.from == want {
			return c
		}
	}
	return connection{}
}
