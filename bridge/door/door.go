package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// The first byte of a connection says which protocol it speaks.
const (
	tlsHandshake = 0x16 // ContentType handshake, RFC 8446 section 5.1
	mqttConnect  = 0x10 // CONNECT, MQTT 3.1.1 section 3.1.1
)

// Defaults of [Config].
const (
	DefaultHandshake                 = 10 * time.Second
	DefaultUnauthenticated           = 1000
	DefaultUnauthenticatedPerAddress = 20
	DefaultConnects                  = 1000
	DefaultConnectsPerAddress        = 100
	DefaultBytes                     = 1 << 20
	DefaultRequests                  = 500
)

// Config of a [Door].
type Config struct {
	// MQTT serves a connection that begins with CONNECT and returns when it has
	// ended. One over TLS has a method ConnectionState, as tls.Conn does. Until
	// the first write to the connection (the CONNACK), no read from it waits
	// beyond Handshake, whatever deadline is set.
	MQTT func(net.Conn)

	// HTTP serves requests. A request must be read within Handshake and answered
	// within 10 s; a handler that streams extends both by
	// http.ResponseController.
	HTTP http.Handler

	// TLS is for whoever begins with it. Nil: its client is closed, and the log
	// says why. Without NextProtos it offers those of [Protocols].
	TLS *tls.Config

	// TLSOnly refuses, in words, who comes without TLS, but not from loopback,
	// where a proxy may sit that has taken it. What a trusted proxy says about its
	// client goes before both.
	TLSOnly bool

	// TrustedProxies are the networks whose PROXY header, Forwarded and
	// X-Forwarded-For are believed, so that a limit per address, a log line and
	// credentials have the client's address. Others' PROXY headers are refused,
	// and what they say in HTTP headers is ignored.
	TrustedProxies []netip.Prefix

	// Plain wraps the handlers for what is asked without TLS all the same, as
	// the HTTPHandler of an autocert.Manager does. Nil: there is nothing.
	Plain func(http.Handler) http.Handler

	// Handshake is how long a connection may take, from accept, until the
	// protocol is known and its client is answered. 0: 10 s.
	Handshake time.Duration

	// Unauthenticated is how many connections may be open that are not
	// answered yet. 0: 1000, negative: any number.
	Unauthenticated int

	// UnauthenticatedPerAddress is how many of them may come from one address (a
	// /64 in IPv6), loopback left out. 0: 20, negative: any number.
	UnauthenticatedPerAddress int

	// Connects is how many new connections there may be a second, and those of ten
	// seconds at once. 0: 1000, negative: any number. One over it is told so, but
	// not where that would take a TLS handshake.
	Connects int

	// ConnectsPerAddress is the same from one address (a /64 in IPv6), loopback left
	// out. 0: 100, negative: any number. See [Arrivals] for who does not stop.
	ConnectsPerAddress int

	// Bytes is how many are read from a connection a second, and four times as many
	// at once: beyond that it is not read from for a while, which TCP tells its
	// sender. Nothing is lost. 0: 1 MiB, negative: any number.
	Bytes int

	// Requests is how many may come by an HTTP connection a second, and four times as
	// many at once; beyond that they wait, and then are refused (429) with the end of
	// the connection. One of a trusted proxy has no limit. 0: 500, negative: none has.
	Requests int

	// Admit says why a connection is not to be taken now, because there is too
	// little left to serve it with: nil if it may come. It is asked often. The client
	// of one is told 503, a CONNACK 0x88 or 3; see [Refused]. Nil: all may come.
	Admit func() *topics.Error

	Logger *slog.Logger // nil: none
}

func (c *Config) check() error {
	var wrong []error
	if c.MQTT == nil {
		wrong = append(wrong, errors.New("door: Config.MQTT is missing"))
	}
	if c.HTTP == nil {
		wrong = append(wrong, errors.New("door: Config.HTTP is missing"))
	}
	if c.TLS != nil && len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil {
		wrong = append(wrong, errors.New("door: Config.TLS has no certificate"))
	}
	if c.TLS == nil && c.TLSOnly {
		wrong = append(wrong, errors.New("door: Config.TLSOnly without Config.TLS would let in nobody"))
	}
	if c.Handshake < 0 {
		wrong = append(wrong, errors.New("door: Config.Handshake is negative"))
	}
	if c.Handshake == 0 {
		c.Handshake = DefaultHandshake
	}
	if c.Unauthenticated == 0 {
		c.Unauthenticated = DefaultUnauthenticated
	}
	if c.UnauthenticatedPerAddress == 0 {
		c.UnauthenticatedPerAddress = DefaultUnauthenticatedPerAddress
	}
	if c.Connects == 0 {
		c.Connects = DefaultConnects
	}
	if c.ConnectsPerAddress == 0 {
		c.ConnectsPerAddress = DefaultConnectsPerAddress
	}
	if c.Bytes == 0 {
		c.Bytes = DefaultBytes
	}
	if c.Requests == 0 {
		c.Requests = DefaultRequests
	}
	if c.Admit == nil {
		c.Admit = func() *topics.Error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(wrong...)
}

// Protocols are the names of what is spoken inside TLS (ALPN, RFC 7301). There is
// no h2, since WebSockets are HTTP/1.1.
func Protocols() []string { return []string{"http/1.1", "mqtt"} }

// Door takes connections from listeners and hands each to its protocol.
type Door struct {
	config Config
	tls    *tls.Config
	http   *http.Server
	toHTTP *handoff

	closed context.Context // done when the door is closed
	close  context.CancelFunc
	wg     sync.WaitGroup // Serve, connections, requests, the HTTP server

	keepAlive func(bool) // whether connections of HTTP are kept for another request

	sparing sync.Mutex
	spares  bool // what there is too little of, see admits; guarded by sparing

	inAll      *Arrivals[struct{}]
	perAddress *Arrivals[netip.Prefix]

	needsCertificate, full, failing, proxied, flooded seldom // warnings that a stranger can cause

	mu        sync.Mutex // guards what follows
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	waiting   int                  // connections that are not admitted
	waitingAt map[netip.Prefix]int // the same, per address
}

// New returns a door that is closed by Close, after which nothing of it is left.
func New(config Config) (*Door, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	d := &Door{
		config:     config,
		toHTTP:     newHandoff(),
		listeners:  make(map[net.Listener]struct{}),
		conns:      make(map[*conn]struct{}),
		waitingAt:  make(map[netip.Prefix]int),
		inAll:      NewArrivals[struct{}](config.Connects, -1),
		perAddress: NewArrivals[netip.Prefix](config.ConnectsPerAddress, config.ConnectsPerAddress*arrivalsAtOnce),
	}
	d.closed, d.close = context.WithCancel(context.Background())
	if config.TLS != nil {
		d.tls = config.TLS.Clone()
		d.tls.MinVersion = max(d.tls.MinVersion, tls.VersionTLS12)
		if d.tls.NextProtos == nil {
			d.tls.NextProtos = Protocols()
		}
	}
	handler := config.HTTP
	if config.TLSOnly {
		handler = d.encryptedOnly(handler)
	}
	if config.Plain != nil {
		handler = config.Plain(handler)
	}
	d.http = d.newServer(handler)
	d.keepAlive = d.http.SetKeepAlivesEnabled
	d.wg.Go(func() { d.http.Serve(d.toHTTP) })
	return d, nil
}

// Serve takes connections from l until l or the door is closed, and returns nil
// then. Several listeners may be served at once. When accepting fails
// otherwise, such as for want of descriptors, it tries again after a while. It
// closes l. On a closed door it returns [net.ErrClosed].
func (d *Door) Serve(l net.Listener) error {
	defer l.Close()
	if !d.open(l) {
		return net.ErrClosed
	}
	defer d.wg.Done()
	defer d.forget(l)
	const first, longest = 5 * time.Millisecond, time.Second
	pause := first
	for {
		raw, err := l.Accept()
		switch {
		case err == nil:
			pause = first
			d.take(raw)
			continue
		case errors.Is(err, net.ErrClosed), d.closed.Err() != nil:
			return nil
		}
		if d.failing.now() {
			d.config.Logger.Error("connections cannot be accepted, trying again", "listener", l.Addr(), "error", err)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-d.closed.Done():
			return nil
		}
	}
}

// Shutdown stops accepting, waits until the HTTP requests in progress are
// answered, or ctx is done, and then closes the door like Close.
func (d *Door) Shutdown(ctx context.Context) error {
	d.closeListeners()
	err := d.http.Shutdown(ctx)
	return errors.Join(err, d.Close())
}

// Close ends the listeners and every connection, upgraded ones too, and
// returns when the door's goroutines have ended. It is idempotent.
func (d *Door) Close() error {
	d.mu.Lock()
	d.close()
	open := make([]*conn, 0, len(d.conns))
	for c := range d.conns {
		open = append(open, c)
	}
	d.mu.Unlock()
	d.closeListeners()
	for _, c := range open {
		c.raw.Close()
	}
	d.http.Close()
	d.wg.Wait()
	return nil
}

func (d *Door) closeListeners() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.listeners {
		l.Close()
	}
}

// open takes note of l, unless the door is closed.
func (d *Door) open(l net.Listener) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Err() != nil {
		return false
	}
	d.listeners[l] = struct{}{}
	d.wg.Add(1)
	return true
}

func (d *Door) forget(l net.Listener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.listeners, l)
}

// take begins with a connection, if there is room for one that is unknown.
func (d *Door) take(raw net.Conn) {
	c := newConn(d, raw)
	ban := false
	c.unserved = d.admits()
	if !c.proxied {
		c.refused, ban = d.arrive(c)
	}
	if ban || !d.enter(c) {
		raw.Close()
		return
	}
	go func() { // d.wg was added to by enter
		if !d.serve(c) {
			c.Close()
			d.wg.Done()
		}
	}()
}

// admits asks [Config.Admit]. While there is too little left it ends the HTTP connections
// that have their answer and are only kept for another request: anybody may hold many of
// these, and nobody who is in a call needs one.
func (d *Door) admits() *topics.Error {
	d.sparing.Lock() // a listener that is slow must not undo what another one has found since it asked
	defer d.sparing.Unlock()
	why := d.config.Admit()
	if little := why != nil; d.spares != little {
		d.spares = little
		d.keepAlive(!little)
	}
	return why
}

// enter takes note of c, unless the door is closed or full.
func (d *Door) enter(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Err() != nil || !d.count(c) {
		return false
	}
	d.conns[c] = struct{}{}
	d.wg.Add(1)
	return true
}

func (d *Door) leave(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	d.uncount(c)
}

// count gives c a place among the connections that are not admitted, unless
// none is free. With d.mu held.
func (d *Door) count(c *conn) bool {
	if c.counted {
		return true
	}
	var full string
	switch {
	case c.unserved != nil && d.waiting >= refusedAtOnce:
		full = "while there is little left"
	case d.config.Unauthenticated >= 0 && d.waiting >= d.config.Unauthenticated:
		full = "in all"
	case d.config.UnauthenticatedPerAddress >= 0 && c.from.IsValid() && d.waitingAt[c.from] >= d.config.UnauthenticatedPerAddress:
		full = "of this address"
	}
	if full != "" {
		if d.full.now() {
			d.config.Logger.Warn("connection closed: too many are not authenticated "+full, "remote", c.RemoteAddr(), "waiting", d.waiting)
		}
		return false
	}
	c.counted = true
	d.waiting++
	if c.from.IsValid() {
		d.waitingAt[c.from]++
	}
	return true
}

// uncount gives the place of c back. With d.mu held.
func (d *Door) uncount(c *conn) {
	if !c.counted {
		return
	}
	c.counted = false
	d.waiting--
	if c.from.IsValid() {
		if d.waitingAt[c.from]--; d.waitingAt[c.from] == 0 {
			delete(d.waitingAt, c.from)
		}
	}
}

// serve finds out what c speaks and serves it. True means that c lives on as
// an HTTP connection, which ends in [Door.state].
func (d *Door) serve(c *conn) (goesOn bool) {
	switch err := d.introduce(c); {
	case err == errFull, err == errBanned: // it was logged
		return false
	case err != nil:
		d.proxied.say(d.config.Logger, slog.LevelWarn, "connection closed: "+err.Error(), "remote", c.RemoteAddr())
		return false
	case c.refused != nil:
		d.refuse(c)
		return false
	}
	first, err := c.first()
	if err == nil && first == tlsHandshake {
		first, err = d.inside(c)
	}
	if err != nil {
		if !errors.Is(err, io.EOF) { // a port check says nothing and goes
			d.config.Logger.Debug("connection closed before it said what it is", "remote", c.RemoteAddr(), "error", err)
		}
		return false
	}
	c.SetWriteDeadline(time.Time{}) // from here on it is its user's
	switch {
	case first == mqttConnect && c.unserved != nil:
		d.refuseMQTT(c, c.unserved)
		return false
	case first == mqttConnect && d.mustEncrypt(c, addrOf(c.RemoteAddr()), c.said):
		d.refuseMQTT(c, errTLSOnly)
		return false
	case first == mqttConnect:
		d.config.MQTT(c.handedOn())
		return false
	case letter(first):
		return d.toHTTP.give(c.handedOn())
	default:
		d.config.Logger.Debug("connection closed: it begins neither like TLS nor MQTT nor HTTP", "remote", c.RemoteAddr(), "byte", first)
		return false
	}
}

var errNoCertificate = errors.New("the client begins with TLS, but no certificate is configured")

// inside puts TLS on c and returns the first byte inside it.
func (d *Door) inside(c *conn) (byte, error) {
	if d.tls == nil {
		if d.needsCertificate.now() {
			d.config.Logger.Warn("connection closed: "+errNoCertificate.Error()+" (--tls-cert, --tls-key)", "remote", c.RemoteAddr())
		}
		return 0, errNoCertificate
	}
	below := c.peeker
	t := tls.Server(&below, d.tls)
	done := make(chan error)
	go func() { done <- t.Handshake() }() // bounded by the deadline of c; the 16 KiB of stack that it takes go with it
	if err := <-done; err != nil {
		return 0, err
	}
	c.peeker = peeker{Conn: t}
	return c.first()
}

// seldom says when it is time again for a warning that strangers can cause: at
// most once a minute.
type seldom struct {
	mu   sync.Mutex
	next time.Time
}

// say logs, when it is time again.
func (s *seldom) say(log *slog.Logger, level slog.Level, text string, about ...any) {
	if s.now() {
		log.Log(context.Background(), level, text, about...)
	}
}

func (s *seldom) now() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := time.Now()
	if t.Before(s.next) {
		return false
	}
	s.next = t.Add(time.Minute)
	return true
}
