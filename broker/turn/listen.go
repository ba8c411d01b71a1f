package turn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ListenConfig says how the embedded server is. Its zero values are defaults.
type ListenConfig struct {
	// Addrs are where clients find it, over UDP and TCP: an IP address and a
	// port, such as "192.0.2.1:3478", or ":3478" for every address.
	Addrs []string

	// TLS is for clients that begin with TLS, on the same TCP port (turns:).
	TLS *tls.Config

	// Secret is the one of Config; at least 16 bytes.
	Secret []byte

	// TTL is that of Config, or the longest of several that have the secret: for
	// so long credentials of a revoked identity are refused. 10 min by default.
	TTL time.Duration

	// PublicIPs are where peers see the relays, at most one of each family. By
	// default that is the address of Addrs; behind a NAT, and where that is
	// every address, it must be said.
	PublicIPs []netip.Addr

	Realm            string // "beckon"
	MinPort, MaxPort uint16 // of relays; 49152 to 65535

	// AllowPeers are targets that are relayed to though they are private or
	// reserved: the local network, for devices that are in it.
	AllowPeers []netip.Prefix

	// A browser makes a relay for each network and transport, and a device one
	// for each of its viewers.
	MaxPerIdentity int // relays; 100
	MaxRelays      int // in all; 1000
	MaxRate        int // bytes a second of a relay, in each direction; 2.5 million, negative: no limit

	// MaxLifetime is how long a relay lasts, however often it is refreshed; 12 h.
	// Long, as a camera is watched for a working day; End does not wait for it.
	MaxLifetime time.Duration

	Now    func() time.Time // the clock that credentials end by; time.Now
	Logger *slog.Logger     // none
}

func (c *ListenConfig) setDefaults() {
	def := func(n *int, to int) {
		if *n == 0 {
			*n = to
		}
	}
	def(&c.MaxPerIdentity, 100)
	def(&c.MaxRelays, 1000)
	def(&c.MaxRate, 2_500_000)
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.MaxLifetime == 0 {
		c.MaxLifetime = 12 * time.Hour
	}
	if c.MinPort == 0 && c.MaxPort == 0 {
		c.MinPort, c.MaxPort = 49152, 65535 // RFC 8656, 7.2
	}
	if c.Realm == "" {
		c.Realm = "beckon"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// check returns where to listen and where the relays are.
func (c *ListenConfig) check() (addrs []netip.AddrPort, sides []side, err error) {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	for _, text := range c.Addrs {
		a, err := parseAddr(text)
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case a.Port() != 0 && slices.Contains(addrs, a):
			add("%s is given twice", text)
		default:
			addrs = append(addrs, a)
		}
	}
	if len(c.Addrs) == 0 {
		add("the TURN server has no address to listen on")
	}
	if err := checkSecret(c.Secret); err != nil {
		wrong = append(wrong, err)
	}
	if c.MinPort == 0 || c.MinPort > c.MaxPort {
		add("%d to %d is no range of ports", c.MinPort, c.MaxPort)
	}
	if strings.ContainsFunc(c.Realm, func(r rune) bool { return r <= ' ' || r > '~' }) || len(c.Realm) > 64 {
		add("the realm %+q is not a word of at most 64 letters", c.Realm)
	}
	if c.MaxPerIdentity < 0 || c.MaxRelays < 0 || c.MaxLifetime < time.Minute {
		add("a limit of relays is negative, or a lifetime shorter than a minute")
	}
	if c.TTL < minTTL || c.TTL > maxTTL {
		add("credentials would last %v, it takes 1m to 24h", c.TTL)
	}
	for _, p := range c.AllowPeers {
		if a := unwrap(p.Addr()); p.IsSingleIP() && within(never, a) || p.Bits() > 0 && a.IsMulticast() {
			add("nothing is relayed to %v, whatever is allowed", p)
		}
	}
	sides, err = c.sides(addrs)
	return addrs, sides, errors.Join(append(wrong, err)...)
}

func parseAddr(text string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err == nil && host == "" {
		host = "::"
	}
	a, addrErr := netip.ParseAddr(host)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || addrErr != nil || portErr != nil || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%+q is no address to listen on: it takes an IP address and a port, such as 192.0.2.1:3478, [2001:db8::1]:3478 or :3478 for every address", text)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// sides are the addresses of the relays, one for each family.
func (c *ListenConfig) sides(addrs []netip.AddrPort) ([]side, error) {
	var sides []side
	var wrong []error
	public := slices.Clone(c.PublicIPs)
	for _, loopback := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		four := loopback.Is4()
		s := side{}
		for _, a := range addrs {
			if a.Addr().Is4() == four && !s.bind.IsValid() {
				s.bind = a.Addr()
			}
			if a.Addr() == netip.IPv6Unspecified() && four && !s.bind.IsValid() {
				s.bind = netip.IPv4Unspecified() // it listens on both
			}
		}
		if i := slices.IndexFunc(public, func(a netip.Addr) bool { return a.Unmap().Is4() == four }); i >= 0 {
			s.announced = public[i].Unmap()
			public = slices.Delete(public, i, i+1)
		}
		switch {
		case !s.bind.IsValid() && !s.announced.IsValid():
			continue
		case !s.bind.IsValid():
			wrong = append(wrong, fmt.Errorf("peers cannot see relays at %v: the server listens on no address of that family", s.announced))
			continue
		case !s.announced.IsValid() && !s.bind.IsUnspecified():
			s.announced = s.bind
		case !s.announced.IsValid():
			continue // no relays of that family
		case s.announced.IsUnspecified() || s.announced.IsMulticast():
			wrong = append(wrong, fmt.Errorf("%v is no address that peers can reach", s.announced))
			continue
		}
		s.inside = s.bind
		if s.bind.IsUnspecified() {
			s.inside = loopback
		}
		sides = append(sides, s)
	}
	for _, a := range public {
		wrong = append(wrong, fmt.Errorf("there is another public address of the family of %v, it takes one", a))
	}
	if len(sides) == 0 && len(wrong) == 0 && len(addrs) > 0 {
		wrong = append(wrong, fmt.Errorf("the TURN server listens on every address, so say which one peers reach: "+
			"the public IP address of this machine, or of the NAT before it%s", candidates()))
	}
	return sides, errors.Join(wrong...)
}

// candidates names the addresses of this machine that may be meant.
func candidates() string {
	own, err := addresses()
	if err != nil {
		return ""
	}
	own = slices.DeleteFunc(own, func(a netip.Addr) bool { return !a.IsGlobalUnicast() })
	if len(own) == 0 {
		return ""
	}
	return fmt.Sprintf("; this machine has %v", own)
}
