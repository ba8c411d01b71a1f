package turn

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// checkURL checks the URL of an ICE server and says whether it relays, so that
// it needs credentials.
//
//	stun:host[:port], stuns:host[:port]          RFC 7064, 3.1
//	turn:host[:port][?transport=udp|tcp], turns: RFC 7065, 3.1
func checkURL(url string) (relays bool, err error) {
	wrong := func(format string, args ...any) (bool, error) {
		return false, fmt.Errorf("ICE server %s: %w", shown(url), fmt.Errorf(format, args...))
	}
	scheme, rest, ok := strings.Cut(url, ":")
	switch scheme {
	case "turn", "turns":
		relays = true
	case "stun", "stuns":
	default:
		ok = false
	}
	if !ok {
		return wrong("it takes stun:, stuns:, turn: or turns: and a host, such as turn:turn.example:3478?transport=udp")
	}
	hostport, query, hasQuery := strings.Cut(rest, "?")
	switch {
	case strings.HasPrefix(rest, "//"):
		return wrong("it has no // after %s:", scheme)
	case strings.ContainsRune(rest, '@'):
		return wrong("it has no user in it; credentials are made with the secret")
	case strings.ContainsAny(rest, "/#"):
		return wrong("it is a host, a port and a transport, without a path")
	case hasQuery && !relays:
		return wrong("%s: takes no ?transport=", scheme)
	case hasQuery && query != "transport=udp" && query != "transport=tcp":
		return wrong("after the ? it takes transport=udp or transport=tcp")
	}
	host, port := hostport, ""
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host, port = hostport[:i], hostport[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return wrong("its port is a number from 1 to 65535")
		}
	}
	if inside, ok := strings.CutPrefix(host, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inside, "]"))
		if err != nil || !a.Is6() || a.Zone() != "" || !strings.HasSuffix(inside, "]") {
			return wrong("what stands in brackets is no IPv6 address")
		}
		return relays, nil
	}
	if strings.ContainsRune(host, ':') {
		return wrong("an IPv6 address takes brackets, such as [2001:db8::1]")
	}
	if !validHost(host) {
		return wrong("it has no host that is a name or an address")
	}
	return relays, nil
}

// validHost reports whether host is a name of DNS or an IPv4 address.
func validHost(host string) bool {
	if len(host) == 0 || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// shown is a URL as an error shows it: without what may be a password.
func shown(url string) string {
	if i := strings.LastIndexByte(url, '@'); i >= 0 {
		url = "..." + url[i:]
	}
	if len(url) > 80 {
		url = url[:80] + "..."
	}
	return fmt.Sprintf("%+q", url)
}
