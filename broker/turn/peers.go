package turn

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// peers is whom the server relays to. Without a rule here, everyone with
// credentials could send from the inside of the operator's network.
type peers struct {
	allow     []netip.Prefix // of what is denied otherwise
	relays    *relays
	listening []uint16 // the server's own ports

	began   time.Time
	own     atomic.Pointer[[]netip.Addr] // of this machine
	renewal atomic.Int64                 // when to look again, in ns since began
}

// ownAddresses is for how long those of this machine are taken to be the same.
const ownAddresses = 30 * time.Second

var (
	errNever   = errors.New("it is nobody's address, or a cloud's own service")
	errThis    = errors.New("it is this machine")
	errSpecial = errors.New("it is private or reserved")
)

// never are the targets that no list allows.
var never = prefixes(
	"0.0.0.0/8",          // this network; 0.0.0.0 is loopback on Linux
	"224.0.0.0/4",        // multicast
	"240.0.0.0/4",        // reserved, and broadcast
	"169.254.169.254/32", // the metadata of AWS, Azure, Google, DigitalOcean, OpenStack
	"169.254.170.2/32",   // of AWS containers
	"100.100.100.200/32", // of Alibaba
	"192.0.0.192/32",     // of Oracle
	"168.63.129.16/32",   // of Azure; looks public
	"::/128",
	"ff00::/8",
	"fd00:ec2::/32", // of AWS
	"fd20:ce::254/128",
)

// special are the targets that are denied unless a list allows them: the
// registries of special-purpose addresses (RFC 6890 and its IANA tables).
var special = prefixes(
	"10.0.0.0/8",
	"100.64.0.0/10", // carrier-grade NAT, RFC 6598
	"127.0.0.0/8",
	"169.254.0.0/16", // link-local, RFC 3927
	"172.16.0.0/12",
	"192.0.0.0/24",
	"192.0.2.0/24",
	"192.88.99.0/24",
	"192.168.0.0/16",
	"198.18.0.0/15", // benchmarks, RFC 2544
	"198.51.100.0/24",
	"203.0.113.0/24",
	"2001::/23", // Teredo, which wraps an IPv4 address, and others
	"2001:db8::/32",
	"3fff::/20",
)

var (
	globalIPv6 = netip.MustParsePrefix("2000::/3")     // all else of IPv6 is local or reserved
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052, 2.1
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056, 2
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	compatible = netip.MustParsePrefix("::/96") // RFC 4291, 2.5.5.1
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func within(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// unwrap is the IPv4 address that packets to an IPv6 address end up at.
func unwrap(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	b := a.As16()
	switch {
	case a.Is4() || a.IsUnspecified() || a == netip.IPv6Loopback():
		return a
	case nat64.Contains(a), translated.Contains(a), compatible.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// check says why no client may have a permission for an address (RFC 8656, 9).
// The announced address of the server is one that may: two relays talk there.
// What may be sent there is for mayReach.
func (p *peers) check(a netip.Addr) error {
	a = unwrap(a)
	switch {
	case !a.IsValid() || within(never, a):
		return errNever
	case within(p.allow, a) || p.relays.announced(a):
		return nil
	case p.local(a):
		return errThis
	case within(special, a) || a.Is6() && !globalIPv6.Contains(a):
		return errSpecial
	}
	return nil
}

// mayReach reports whether a packet may go to a target. On this machine those
// are the relays, and what the list allows but for the server itself.
func (p *peers) mayReach(to netip.AddrPort) bool {
	a := unwrap(to.Addr())
	if to.Port() == 0 || p.check(a) != nil {
		return false
	}
	if !p.relays.announced(a) && !p.local(a) {
		return true
	}
	if p.relays.at(netip.AddrPortFrom(a, to.Port())) {
		return true
	}
	return within(p.allow, a) && !slices.Contains(p.listening, to.Port())
}

// local reports whether a is an address of this machine. Those change, so they
// are looked up again after a while.
func (p *peers) local(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	now := int64(time.Since(p.began)) // the time of day may be set
	if next := p.renewal.Load(); now >= next && p.renewal.CompareAndSwap(next, now+int64(ownAddresses)) {
		if own, err := addresses(); err == nil {
			p.own.Store(&own)
		}
	}
	own := p.own.Load()
	return own != nil && slices.Contains(*own, a)
}

// addresses are those of this machine.
func addresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(ip.IP); ok {
				own = append(own, addr.Unmap())
			}
		}
	}
	return own, nil
}
