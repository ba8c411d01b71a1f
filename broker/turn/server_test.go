package turn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
	"github.com/pion/logging"
	pion "github.com/pion/turn/v5"
)

// diary is what a server logs.
type diary struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func (d *diary) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.wrote)
	d.wrote = make(chan struct{})
	return d.text.Write(p)
}

// waitFor waits until the server has said something n times.
func (d *diary) waitFor(t *testing.T, says string, n int) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		d.mu.Lock()
		text, wrote := d.text.String(), d.wrote
		d.mu.Unlock()
		if strings.Count(text, says) >= n {
			return
		}
		select {
		case <-wrote:
		case <-late:
			t.Fatalf("the server did not say %q:\n%s", says, text)
		}
	}
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// clock can be set.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time          { return someday.Add(time.Duration(c.seconds.Load()) * time.Second) }
func (c *clock) forward(d time.Duration) { c.seconds.Add(int64(d / time.Second)) }

// start starts a server on loopback, with Servers for it on the same clock.
func start(t *testing.T, change ...func(*ListenConfig)) (*Server, *Servers, *clock, *diary) {
	t.Helper()
	now, log := new(clock), &diary{wrote: make(chan struct{})}
	c := ListenConfig{
		Addrs: []string{"127.0.0.1:0"}, Secret: []byte(secret), Now: now.now,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	s, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := s.Relays(); n != 0 {
			t.Errorf("%d relays are left", n)
		}
	})
	servers, err := New(Config{URLs: s.URLs(), Secret: c.Secret, Now: now.now})
	if err != nil {
		t.Fatal(err)
	}
	return s, servers, now, log
}

// login is the user name and the credential that an identity is told.
func login(servers *Servers, name string) (username, credential string) {
	all, _ := servers.ICEServers(topics.Identity{Name: name})
	turn := all[len(all)-1]
	return turn.Username, turn.Credential
}

// client is one of pion's.
type client struct {
	*pion.Client
	relay net.PacketConn
}

// dial makes a client over a network ("udp", "tcp", "tls").
func dial(t *testing.T, network, server, username, credential string) *client {
	t.Helper()
	var conn net.PacketConn
	switch network {
	case "udp":
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn = udp
	default:
		tcp, err := net.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		if network == "tls" {
			tcp = tls.Client(tcp, &tls.Config{InsecureSkipVerify: true}) // it is the test's own
		}
		conn = pion.NewSTUNConn(tcp)
	}
	c, err := pion.NewClient(&pion.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Username: username, Password: credential, Conn: conn, LoggerFactory: silence{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		_ = conn.Close()
	})
	return &client{Client: c}
}

// allocate asks for a relay.
func (c *client) allocate(t *testing.T) error {
	relay, err := c.Allocate()
	if err == nil {
		c.relay = relay
		t.Cleanup(func() { _ = relay.Close() })
	}
	return err
}

// silence is a log of pion's that says nothing.
type silence struct{}

func (silence) NewLogger(string) logging.LeveledLogger { return pionLog{slog.New(slog.DiscardHandler)} }

func (s *Server) at() string { return s.Addrs()[0].String() }

// joined are two clients with a relay each, that may talk to each other.
func joined(t *testing.T, s *Server, servers *Servers, networks ...string) (alice, bob *client) {
	t.Helper()
	var both [2]*client
	for i, name := range []string{"alice", "bob"} {
		user, credential := login(servers, name)
		both[i] = dial(t, networks[i%len(networks)], s.at(), user, credential)
		if err := both[i].allocate(t); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range both {
		if err := c.CreatePermission(both[1-i].relay.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	return both[0], both[1]
}

// hears checks that what a client sends arrives at another.
func hears(t *testing.T, from, to *client, text string) {
	t.Helper()
	if _, err := from.relay.WriteTo([]byte(text), to.relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	_ = to.relay.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, at, err := to.relay.ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != text || at.String() != from.relay.LocalAddr().String() {
		t.Fatalf("got %q from %v: %v", buffer[:n], at, err)
	}
}

func TestTwoRelaysCarryWhatClientsSay(t *testing.T) {
	certificate := newCertificate(t)
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			s, servers, _, log := start(t, func(c *ListenConfig) { c.TLS = certificate })
			alice, bob := joined(t, s, servers, network)
			hears(t, alice, bob, "hello")
			hears(t, bob, alice, "and hello to you")
			if at, err := alice.SendBindingRequest(); err != nil || !strings.HasPrefix(at.String(), "127.0.0.1:") {
				t.Errorf("STUN: %v, %v", at, err)
			}
			if err := alice.relay.Close(); err != nil {
				t.Fatal(err)
			}
			log.waitFor(t, `msg="relay ended" peer=alice`, 1)
			if s.Relays() != 1 {
				t.Errorf("%d relays", s.Relays())
			}
			if err := s.Close(); err != nil { // with bob's
				t.Fatal(err)
			}
			for _, says := range []string{`msg="relay made" peer=alice`, `msg="relay made" peer=bob`, `msg="relay ended" peer=bob`} {
				if !strings.Contains(log.String(), says) {
					t.Errorf("the log does not have %s", says)
				}
			}
			_, credential := login(servers, "alice")
			for _, planted := range []string{secret, credential} {
				if strings.Contains(log.String(), planted) {
					t.Error("a secret is in the log")
				}
			}
		})
	}
}

func TestRelaysBehindANATReachEachOther(t *testing.T) {
	public := netip.MustParseAddr("198.51.100.7")
	s, servers, _, _ := start(t, func(c *ListenConfig) { c.PublicIPs = []netip.Addr{public} })
	if urls := strings.Join(s.URLs(), " "); !strings.Contains(urls, "turn:198.51.100.7:") {
		t.Errorf("URLs %s", urls)
	}
	alice, bob := joined(t, s, servers, "udp")
	if addrPort(alice.relay.LocalAddr()).Addr() != public {
		t.Fatalf("alice is at %v", alice.relay.LocalAddr())
	}
	hears(t, alice, bob, "hello")
	hears(t, bob, alice, "hello")
}

func TestForeignCredentialsAreRefused(t *testing.T) {
	threat.Row(t, 26, 0)
	const (
		forged  = "the credentials are not of this server's secret"
		ended   = "the credentials have ended"
		strange = "the user name is not of this scheme"
	)
	user := username("alice", someday.Add(time.Minute))
	right := password([]byte(secret), user)
	for name, c := range map[string]struct{ user, password, why string }{
		"another name":   {strings.Replace(user, "alice", "mallory", 1), right, forged},
		"a later end":    {username("alice", someday.Add(time.Hour)), right, forged},
		"another secret": {user, password([]byte("another secret of sixteen"), user), forged},
		"no password":    {user, "", forged},
		"ended":          {username("alice", someday.Add(-time.Second)), "", ended},
		"no time":        {"alice", "", strange},
		"no name":        {"1900000000:", "", strange},
		"a strange name": {"1900000000:a b", "", strange},
		"two names":      {user + ":bob", "", strange},
		"a fraction":     {"1900000000.5:alice", "", strange},
		"a long number":  {"99999999999999999999:alice", "", strange},
	} {
		t.Run(name, func(t *testing.T) {
			if c.why != forged {
				c.password = password([]byte(secret), c.user)
			}
			s, _, _, log := start(t)
			for _, network := range []string{"udp", "tcp"} {
				if err := dial(t, network, s.at(), c.user, c.password).allocate(t); err == nil {
					t.Errorf("taken over %s", network)
				}
			}
			if s.Relays() != 0 {
				t.Errorf("%d relays", s.Relays())
			}
			if n := strings.Count(log.String(), c.why); n < 2 {
				t.Errorf("the log does not say %q:\n%s", c.why, log)
			}
			if err := dial(t, "udp", s.at(), user, right).allocate(t); err != nil {
				t.Errorf("right credentials are refused: %v", err)
			}
		})
	}
}

func TestEndedCredentialsKeepARelayButMakeNone(t *testing.T) {
	threat.Row(t, 26, 0)
	s, servers, now, _ := start(t)
	alice, bob := joined(t, s, servers, "udp", "tcp")
	user, credential := login(servers, "alice")
	now.forward(11 * time.Minute)

	hears(t, alice, bob, "still here")
	for _, c := range []*client{alice, bob} {
		if err := c.CreatePermission(bob.relay.LocalAddr()); err != nil {
			t.Errorf("a call ends with its credentials: %v", err)
		}
	}
	if err := dial(t, "udp", s.at(), user, credential).allocate(t); err == nil {
		t.Error("ended credentials make a relay")
	}
	user, credential = login(servers, "alice")
	if err := dial(t, "udp", s.at(), user, credential).allocate(t); err != nil {
		t.Errorf("new ones do not: %v", err)
	}
}

func TestCredentialsOfATimeToComeKeepARelayButMakeNone(t *testing.T) {
	threat.Row(t, 26, 0)
	s, servers, now, log := start(t)
	const ahead = 10 * 365 * 24 * time.Hour // that the clock is when they are made
	now.forward(ahead)
	alice, bob := joined(t, s, servers, "udp", "tcp")
	user, credential := login(servers, "alice")
	now.forward(-ahead)

	hears(t, alice, bob, "still here")
	if err := alice.CreatePermission(bob.relay.LocalAddr()); err != nil {
		t.Errorf("a call ends when the clock is set right: %v", err)
	}
	if err := dial(t, "udp", s.at(), user, credential).allocate(t); err == nil {
		t.Error("credentials that are good for ten years make a relay")
	}
	log.waitFor(t, "more than a day ahead", 1)
	user, credential = login(servers, "alice")
	if err := dial(t, "udp", s.at(), user, credential).allocate(t); err != nil {
		t.Errorf("new ones do not: %v", err)
	}
}

func TestIdentitiesAndTheServerHaveSoManyRelays(t *testing.T) {
	threat.Row(t, 26, 0)
	s, servers, _, log := start(t, func(c *ListenConfig) { c.MaxPerIdentity, c.MaxRelays = 2, 3 })
	allocate := func(name, network string) (*client, error) {
		user, credential := login(servers, name)
		c := dial(t, network, s.at(), user, credential)
		return c, c.allocate(t)
	}
	first, err := allocate("alice", "udp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := allocate("alice", "tcp"); err != nil {
		t.Fatal(err)
	}
	if _, err := allocate("alice", "udp"); err == nil || !strings.Contains(err.Error(), "486") {
		t.Errorf("alice's third: %v", err)
	}
	if _, err := allocate("bob", "udp"); err != nil {
		t.Fatal(err)
	}
	if _, err := allocate("carol", "udp"); err == nil || !strings.Contains(err.Error(), "486") {
		t.Errorf("the fourth of all: %v", err)
	}
	_ = first.relay.Close()
	log.waitFor(t, "relay ended", 1)
	if _, err := allocate("alice", "udp"); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestARaceForRelaysDoesNotGetMore(t *testing.T) {
	s, servers, _, _ := start(t, func(c *ListenConfig) { c.MaxPerIdentity = 3 })
	user, credential := login(servers, "alice")
	var clients sync.WaitGroup
	var made atomic.Int32
	for range 10 {
		c := dial(t, "tcp", s.at(), user, credential) // each has a loop of its own
		clients.Go(func() {
			if c.allocate(t) == nil {
				made.Add(1)
			}
		})
	}
	clients.Wait()
	if made.Load() != 3 || s.Relays() != 3 {
		t.Errorf("%d made, %d relays", made.Load(), s.Relays())
	}
}

func TestTargetsThatAreDeniedAreNotReached(t *testing.T) {
	victim, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	s, servers, _, _ := start(t)
	alice, bob := joined(t, s, servers, "udp")
	for _, target := range []string{"10.0.0.1:53", "127.0.0.2:53", "169.254.169.254:80", "192.168.1.1:53", "0.0.0.0:53", "224.0.0.1:53", "255.255.255.255:53"} {
		if err := alice.CreatePermission(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(target))); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("a permission for %s: %v", target, err)
		}
	}
	// The address of the relays is one that a client may have a permission for.
	// What is no relay there still gets nothing.
	for range 3 {
		if _, err := alice.relay.WriteTo([]byte("boo"), victim.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	hears(t, alice, bob, "hello") // it has gone through, so what was before it has, too
	_ = victim.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, from, err := victim.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes reached a port of this machine, from %v", n, from)
	}
}

func TestTargetsOfTheListAreReached(t *testing.T) {
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	s, servers, _, _ := start(t, func(c *ListenConfig) { c.AllowPeers = prefixes("127.0.0.0/8") })
	user, credential := login(servers, "alice")
	alice := dial(t, "udp", s.at(), user, credential)
	if err := alice.allocate(t); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.relay.WriteTo([]byte("hello"), peer.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetReadDeadline(time.Now().Add(20 * time.Second))
	buffer := make([]byte, 100)
	if n, _, err := peer.ReadFrom(buffer); err != nil || string(buffer[:n]) != "hello" {
		t.Errorf("got %q: %v", buffer[:n], err)
	}
}

func TestRelaysOfARevokedIdentityEndAtOnce(t *testing.T) {
	s, servers, _, log := start(t)
	alice, bob := joined(t, s, servers, "udp")
	hears(t, alice, bob, "hello")
	s.End(func(name string) bool { return name == "alice" })
	for range 3 {
		if _, err := alice.relay.WriteTo([]byte("not any more"), bob.relay.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	log.waitFor(t, `msg="relay ended" peer=alice`, 1)
	_ = bob.relay.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, _, err := bob.relay.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes arrive", n)
	}
	if s.Relays() != 1 {
		t.Errorf("%d relays", s.Relays())
	}
}

func TestOnlyRelaysOfUDPAreOffered(t *testing.T) {
	s, servers, _, _ := start(t)
	user, credential := login(servers, "alice")
	if _, err := dial(t, "tcp", s.at(), user, credential).AllocateTCP(); err == nil {
		t.Error("a relay of TCP is made")
	}
	if _, err := s.relays.open("udp4", ""); !errors.Is(err, errUDPOnly) {
		t.Errorf("a reserved port: %v", err)
	}
	if _, err := s.relays.open("udp6", "alice"); err == nil {
		t.Error("a relay of IPv6 is made where there is none")
	}
}

func TestAFullRangeOfPortsIsAnAnswer(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := addrPort(taken.LocalAddr()).Port()
	s, servers, _, _ := start(t, func(c *ListenConfig) { c.MinPort, c.MaxPort = port, port })
	user, credential := login(servers, "alice")
	if err := dial(t, "udp", s.at(), user, credential).allocate(t); err == nil || !strings.Contains(err.Error(), "508") {
		t.Errorf("it says %v", err)
	}
}

func TestPermissionsOfARelayAreBoundedAndEndBeforeIt(t *testing.T) {
	table := &relays{longest: time.Hour}
	r := &relay{table: table, made: time.Now(), until: time.Now().Add(time.Hour), granted: make(map[netip.Addr]time.Time)}
	a := netip.MustParseAddr("8.8.0.0")
	for range maxGranted {
		a = a.Next()
		if !r.grant(a) {
			t.Fatal("refused")
		}
	}
	if r.grant(a.Next()) || !r.grant(a) {
		t.Error("one more is granted, or one that was is not")
	}
	r.granted[netip.MustParseAddr("8.8.0.1")] = time.Now().Add(-2 * permission)
	if !r.grant(a.Next()) {
		t.Error("an old one is counted")
	}
	r.kept(time.Second)
	if r.grant(a) {
		t.Error("granted in the last moment")
	}
	r.kept(24 * time.Hour)
	if !r.grant(a) || r.until.After(r.made.Add(time.Hour)) {
		t.Errorf("it lasts until %v", r.until)
	}
}

func TestARelayCarriesSoMuchASecond(t *testing.T) {
	now := time.Now()
	b := newBucket(1000, now)
	for range 10 {
		if !b.take(100, now) {
			t.Fatal("refused")
		}
	}
	if b.take(1, now) || !b.take(500, now.Add(time.Second/2)) || b.take(1, now.Add(time.Second/2)) {
		t.Error("it is not 1000 a second")
	}
	for free := newBucket(-1, now); !free.take(1<<30, now); {
		t.Fatal("it is limited")
	}
}

func TestMistakesOfTheServersConfigurationAreToldAtOnce(t *testing.T) {
	_, err := Listen(ListenConfig{
		Addrs: []string{"localhost:3478", "127.0.0.1", "127.0.0.1:3478", "127.0.0.1:3478"}, Secret: []byte("short"), MinPort: 2, MaxPort: 1, Realm: "a b",
		PublicIPs:  []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")},
		AllowPeers: prefixes("169.254.169.254/32"),
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, says := range []string{
		`"localhost:3478" is no address`, `"127.0.0.1" is no address`, "given twice", "has 5 bytes", "no range of ports", "not a word",
		"another public address of the family of 192.0.2.2", "cannot see relays at 2001:db8::1", "nothing is relayed to 169.254.169.254/32",
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("it does not say %q:\n%v", says, err)
		}
	}
	for _, every := range []string{":3478", "0.0.0.0:3478", "[::]:3478"} {
		if _, err := Listen(ListenConfig{Addrs: []string{every}, Secret: []byte(secret)}); err == nil || !strings.Contains(err.Error(), "say which one peers reach") {
			t.Errorf("%s: %v", every, err)
		}
	}
	if _, err := Listen(ListenConfig{Secret: []byte(secret)}); err == nil {
		t.Error("no address is taken")
	}
	s, _, _, _ := start(t)
	if _, err := Listen(ListenConfig{Addrs: []string{s.at()}, Secret: []byte(secret)}); err == nil || !strings.Contains(err.Error(), "cannot listen on") {
		t.Errorf("a port that is taken: %v", err)
	}
}

func TestListeningOnEveryAddress(t *testing.T) {
	s, servers, _, _ := start(t, func(c *ListenConfig) {
		c.Addrs, c.PublicIPs = []string{":0"}, []netip.Addr{netip.MustParseAddr("198.51.100.7")}
	})
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Addrs()[0].Port()).String()
	for _, network := range []string{"udp", "tcp"} {
		user, credential := login(servers, "alice")
		a, b := dial(t, network, at, user, credential), dial(t, "udp", at, user, credential)
		for _, c := range []*client{a, b} {
			if err := c.allocate(t); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.CreatePermission(a.relay.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		hears(t, a, b, "hello")
	}
}

func TestCloseAgainIsNothing(t *testing.T) {
	s, _, _, _ := start(t)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.relays.open("udp4", "alice"); !errors.Is(err, errClosed) {
		t.Errorf("a relay of a closed server: %v", err)
	}
}

func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	log := &diary{wrote: make(chan struct{})}
	r := &refusals{log: slog.New(slog.NewTextHandler(log, nil))}
	for range 1000 {
		r.note("alice", "no")
	}
	if n := strings.Count(log.String(), "\n"); n > 30 { // two seconds at most
		t.Errorf("%d lines", n)
	}
}
