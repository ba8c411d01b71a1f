package turn

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// testPeers are those of a server at 198.51.100.7, behind a NAT, that listens
// on 10.0.0.2:3478.
func testPeers(allow ...string) *peers {
	t := &relays{
		sides: []side{{
			bind: netip.MustParseAddr("10.0.0.2"), announced: netip.MustParseAddr("198.51.100.7"), inside: netip.MustParseAddr("10.0.0.2"),
		}},
		byAddress: map[netip.AddrPort]*relay{netip.MustParseAddrPort("198.51.100.7:50000"): {}},
	}
	p := &peers{allow: prefixes(allow...), relays: t, listening: []uint16{3478}, began: time.Now()}
	p.own.Store(&[]netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("8.8.4.4")})
	p.renewal.Store(1 << 60)
	return p
}

func TestPrivateAndReservedTargetsAreDenied(t *testing.T) {
	p := testPeers()
	for a, want := range map[string]error{
		"8.8.8.8": nil, "100.63.255.255": nil, "100.128.0.1": nil, "172.15.0.1": nil, "172.32.0.1": nil, "2606:4700::1111": nil,
		"::ffff:8.8.8.8": nil, "64:ff9b::808:808": nil, "2002:808:808::1": nil, "198.51.100.7": nil,

		"0.0.0.0": errNever, "0.1.2.3": errNever, "224.0.0.1": errNever, "239.255.255.250": errNever, "255.255.255.255": errNever,
		"240.0.0.1": errNever, "169.254.169.254": errNever, "168.63.129.16": errNever, "100.100.100.200": errNever, "fd00:ec2::254": errNever,
		"::": errNever, "ff02::1": errNever, "::ffff:0.0.0.0": errNever, "::ffff:169.254.169.254": errNever,
		"64:ff9b::a9fe:a9fe": errNever, "2002:a9fe:a9fe::1": errNever,

		"10.0.0.1": errSpecial, "10.255.255.255": errSpecial, "100.64.0.1": errSpecial, "100.127.255.255": errSpecial, "169.254.1.1": errSpecial,
		"172.16.0.1": errSpecial, "172.31.255.255": errSpecial, "192.168.1.1": errSpecial, "192.0.0.1": errSpecial, "192.0.2.1": errSpecial,
		"198.18.0.1": errSpecial, "198.51.100.1": errSpecial, "203.0.113.1": errSpecial, "192.88.99.1": errSpecial,
		"fe80::1": errSpecial, "fc00::1": errSpecial, "fd12:3456::1": errSpecial, "fec0::1": errSpecial, "2001:db8::1": errSpecial,
		"2001:0:4136:e378:8000:63bf:3fff:fdd2": errSpecial, // Teredo
		"64:ff9b:1::a00:1":                     errSpecial, // local NAT64
		"100::1":                               errSpecial, // discard
		"5f00::1":                              errSpecial, "3fff::1": errSpecial,
		"::ffff:10.0.0.1": errSpecial, "::ffff:192.168.1.1": errSpecial, "::10.0.0.1": errSpecial, "::ffff:0:10.0.0.1": errSpecial,
		"64:ff9b::a00:1": errSpecial, "64:ff9b::192.168.1.1": errSpecial, "2002:a00:1::1": errSpecial, "2002:c0a8:101::": errSpecial,

		"127.0.0.1": errThis, "127.1.2.3": errThis, "::1": errThis, "::ffff:127.0.0.1": errThis, "64:ff9b::7f00:1": errThis,
		"2002:7f00:1::": errThis, "::127.0.0.1": errThis, "10.0.0.2": errThis, "8.8.4.4": errThis, "::ffff:8.8.4.4": errThis,
	} {
		if got := p.check(netip.MustParseAddr(a)); !errors.Is(got, want) {
			t.Errorf("%s: %v, it should be %v", a, got, want)
		}
	}
	if p.check(netip.Addr{}) == nil {
		t.Error("no address at all is allowed")
	}
}

func TestAListAllowsWhatIsPrivateButNeverACloudsMetadata(t *testing.T) {
	p := testPeers("10.0.0.0/8", "127.0.0.0/8", "fd00::/8")
	for a, want := range map[string]error{
		"10.1.1.1": nil, "10.0.0.2": nil, "127.0.0.1": nil, "::ffff:10.1.1.1": nil, "64:ff9b::a01:101": nil, "fd12::1": nil,
		"192.168.1.1": errSpecial, "169.254.169.254": errNever, "fd00:ec2::254": errNever, "8.8.4.4": errThis,
	} {
		if got := p.check(netip.MustParseAddr(a)); !errors.Is(got, want) {
			t.Errorf("%s: %v, it should be %v", a, got, want)
		}
	}
	p = testPeers("0.0.0.0/0", "::/0")
	for _, a := range []string{"169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "::", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"} {
		if p.check(netip.MustParseAddr(a)) == nil {
			t.Errorf("%s is allowed", a)
		}
	}
}

func TestOnThisMachineOnlyRelaysAreReached(t *testing.T) {
	p := testPeers()
	for to, want := range map[string]bool{
		"8.8.8.8:53":         true,
		"8.8.8.8:0":          false,
		"198.51.100.7:50000": true,  // a relay
		"198.51.100.7:50001": false, // none
		"198.51.100.7:3478":  false, // the server itself
		"10.0.0.2:50000":     false,
		"127.0.0.1:50000":    false,
		"8.8.4.4:53":         false,
		"10.0.0.3:53":        false,

		"[::ffff:198.51.100.7]:3478": false, "[64:ff9b::c633:6407]:3478": false,
	} {
		if got := p.mayReach(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
	p = testPeers("10.0.0.0/8", "127.0.0.0/8")
	for to, want := range map[string]bool{
		"10.0.0.3:3478": true, "10.0.0.2:5000": true, "10.0.0.2:3478": false, "127.0.0.1:5000": true, "127.0.0.1:3478": false,
		"198.51.100.7:5000": false,
	} {
		if got := p.mayReach(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s with a list: %v", to, got)
		}
	}
}
