package turn

import (
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// relays are the allocations there are (RFC 8656, 2.2), each with a socket of
// its own that peers see.
type relays struct {
	ports        [2]uint16 // first and last
	perIdentity  int
	most         int
	perSecond    int // bytes of each, in each direction; negative: no limit
	longest      time.Duration
	sides        []side
	peers        *peers
	log          *slog.Logger
	ended        sync.WaitGroup // one for each relay
	mu           sync.RWMutex   // guards what is below
	closed       bool
	byAddress    map[netip.AddrPort]*relay // where peers see it
	byConnection map[connection]*relay     // who has it
	held         map[string]int            // by identity
}

// side is where the relays of one family of addresses are.
type side struct {
	bind      netip.Addr // what their sockets are bound to; may be unspecified
	announced netip.Addr // where peers see them
	inside    netip.Addr // where they see each other
}

// connection is between a client and the server: a 5-tuple of RFC 8656, 2.2.
type connection struct {
	network  string
	from, to netip.AddrPort
}

func newConnection(from, to net.Addr) connection {
	return connection{network: from.Network(), from: addrPort(from), to: addrPort(to)}
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case *net.TCPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}

var (
	errQuotaIdentity = errors.New("the identity has as many relays as it may")
	errQuotaAll      = errors.New("the server has as many relays as it may")
	errClosed        = errors.New("the server is closed")
	errUDPOnly       = errors.New("only relays of UDP are offered, without reserved ports")
	errNoPort        = errors.New("no port is free for a relay")
)

// room says whether an identity may have one more relay.
func (t *relays) room(name string) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.roomLocked(name)
}

func (t *relays) roomLocked(name string) error {
	switch {
	case t.closed:
		return errClosed
	case t.held[name] >= t.perIdentity:
		return errQuotaIdentity
	case len(t.byAddress) >= t.most:
		return errQuotaAll
	}
	return nil
}

// open makes a relay for an identity.
func (t *relays) open(network, name string) (*relay, error) {
	if name == "" { // pion looks for an even port, to reserve the next one
		return nil, errUDPOnly
	}
	at, err := t.side(network)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.roomLocked(name); err != nil {
		return nil, err
	}
	conn, err := t.listen(network, at.bind)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r := &relay{
		UDPConn: conn, table: t, name: name, side: at, made: now, until: now.Add(t.longest), granted: make(map[netip.Addr]time.Time),
		address: netip.AddrPortFrom(at.announced, addrPort(conn.LocalAddr()).Port()),
		in:      newBucket(t.perSecond, now), out: newBucket(t.perSecond, now),
	}
	_ = conn.SetReadDeadline(r.until)
	t.byAddress[r.address] = r
	t.held[name]++
	t.ended.Add(1)
	return r, nil
}

func (t *relays) side(network string) (side, error) {
	for _, s := range t.sides {
		if s.bind.Is4() == (network == "udp4") {
			return s, nil
		}
	}
	return side{}, errors.New("the server has no address of that family")
}

func (t *relays) listen(network string, bind netip.Addr) (*net.UDPConn, error) {
	count := int(t.ports[1]) - int(t.ports[0]) + 1
	first := rand.IntN(count)
	for i := range min(count, 200) {
		port := int(t.ports[0]) + (first+i)%count
		conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(bind, uint16(port))))
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, os.ErrPermission) {
			return nil, err
		}
	}
	return nil, errNoPort
}

// taken notes which connection has the relay at an address.
func (t *relays) taken(c connection, at netip.AddrPort) *relay {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.byAddress[at]
	if r != nil {
		r.connection = c
		t.byConnection[c] = r
	}
	return r
}

// of is the relay of a connection, or nil.
func (t *relays) of(c connection) *relay {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byConnection[c]
}

// has reports whether an identity has a relay over a connection from there.
func (t *relays) has(name string, from net.Addr) bool {
	want := newConnection(from, from)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.held[name] == 0 {
		return false
	}
	for c, r := range t.byConnection {
		if r.name == name && c.network == want.network && c.from == want.from {
			return true
		}
	}
	return false
}

// announced reports whether relays are seen at a.
func (t *relays) announced(a netip.Addr) bool {
	for _, s := range t.sides {
		if s.announced == a {
			return true
		}
	}
	return false
}

// at reports whether there is a relay at an address.
func (t *relays) at(address netip.AddrPort) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byAddress[address] != nil
}

// count is how many relays there are.
func (t *relays) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byAddress)
}

// names are the identities that have relays.
func (t *relays) names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Keys(t.held))
}

// end ends the relays of the identities that which chooses.
func (t *relays) end(which func(name string) bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, r := range t.byAddress {
		if which(r.name) {
			r.end()
		}
	}
}

// close lets nobody have another one.
func (t *relays) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.end(func(string) bool { return true })
}

// relay is one of them: the socket, as pion reads and writes it.
type relay struct {
	*net.UDPConn
	table      *relays
	name       string // of the identity
	side       side
	address    netip.AddrPort // where peers see it
	made       time.Time
	connection connection // guarded by table.mu

	mu       sync.Mutex // guards what is below
	until    time.Time  // when it ends, if nothing keeps it
	ending   bool
	done     bool
	granted  map[netip.Addr]time.Time // permissions
	channels int
	in, out  bucket
	carried  [2]int64 // bytes in and out
}

const (
	maxGranted    = 64 // permissions of a relay, and channels
	permission    = 5 * time.Minute
	lastMoment    = time.Second
	channelOpened = 1
	channelClosed = -1
)

// kept notes that the client made the relay last so much longer.
func (r *relay) kept(lifetime time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = time.Now().Add(lifetime)
	if most := r.made.Add(r.table.longest); r.until.After(most) {
		r.until = most
	}
}

// grant reports whether the client may have, or keep, a permission. In the last
// moment of a relay it may not: when a lifetime runs out, pion 5.1.0 stops the
// timers of permissions without a lock, and one in the making has none yet.
func (r *relay) grant(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.ending || r.done || r.until.Sub(now) < lastMoment || r.channels >= maxGranted {
		return false
	}
	if _, again := r.granted[a]; !again && len(r.granted) >= maxGranted {
		for a, last := range r.granted {
			if now.Sub(last) > permission {
				delete(r.granted, a)
			}
		}
		if len(r.granted) >= maxGranted {
			return false
		}
	}
	r.granted[a] = now
	return true
}

func (r *relay) channel(change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels += change
}

// end ends the relay: it carries nothing from now on, and its socket is closed
// when no permission can be in the making any more.
func (r *relay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ending {
		r.ending = true
		_ = r.SetReadDeadline(time.Now().Add(lastMoment))
	}
}

// pass reports whether n bytes may go through.
func (r *relay) pass(n int, direction int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.in
	if direction == outward {
		b = &r.out
	}
	if r.ending || !b.take(n, time.Now()) {
		return false
	}
	r.carried[direction] += int64(n)
	return true
}

const (
	inward  = 0 // from peers
	outward = 1 // to them
)

// WriteTo sends to a peer. What may not go there is lost, as UDP is.
func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	target := addrPort(to)
	if !r.table.peers.mayReach(target) || !r.pass(len(p), outward) {
		return len(p), nil
	}
	if target.Addr() == r.side.announced {
		target = netip.AddrPortFrom(r.side.inside, target.Port()) // a NAT need not know the way back
	}
	return r.WriteToUDPAddrPort(p, target)
}

// ReadFrom receives from a peer.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.ReadFromUDPAddrPort(p)
		if err != nil {
			return 0, nil, err
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if from.Addr() == r.side.inside {
			if outside := netip.AddrPortFrom(r.side.announced, from.Port()); r.table.at(outside) {
				from = outside
			}
		}
		if r.pass(n, inward) {
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
}

// Close is called by pion when the allocation has ended, for whatever reason.
func (r *relay) Close() error {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return nil
	}
	r.done = true
	carried := r.carried
	r.mu.Unlock()
	_ = r.UDPConn.Close()

	t := r.table
	t.mu.Lock()
	delete(t.byAddress, r.address)
	via := r.connection.network
	if t.byConnection[r.connection] == r {
		delete(t.byConnection, r.connection)
	}
	if t.held[r.name]--; t.held[r.name] <= 0 {
		delete(t.held, r.name)
	}
	t.mu.Unlock()
	t.log.Info("relay ended", "peer", r.name, "via", via, "after", time.Since(r.made).Round(time.Second),
		"bytes_in", carried[inward], "bytes_out", carried[outward])
	t.ended.Done()
	return nil
}

// bucket is a budget of bytes: so many a second, at most those of a second at
// once.
type bucket struct {
	perSecond, left float64
	last            time.Time
}

func newBucket(perSecond int, now time.Time) bucket {
	return bucket{perSecond: float64(perSecond), left: float64(perSecond), last: now}
}

func (b *bucket) take(n int, now time.Time) bool {
	if b.perSecond < 0 {
		return true
	}
	b.left = min(b.perSecond, b.left+b.perSecond*now.Sub(b.last).Seconds())
	b.last = now
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}
