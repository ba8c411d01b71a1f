package bridge

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/beckon-rtc/beckon/topics"
)

// Origins says which web pages may open a WebSocket (RFC 6455, section 10.2):
// those of the same host and port, and the allowed ones. A client that sends no
// Origin is no browser, and may.
type Origins struct {
	Allowed []string // such as "https://app.example" or "http://10.0.0.5:8000", compared as a whole
	Dev     bool     // allow pages of loopback hosts; refuse a Host that is not loopback
}

// Validate says which of the allowed origins are none, all at once.
func (o Origins) Validate() error {
	var wrong []error
	for _, a := range o.Allowed {
		if _, err := parseOrigin(a); err != nil {
			wrong = append(wrong, fmt.Errorf("origin %s: %w", Excerpt(a), err))
		}
	}
	return errors.Join(wrong...)
}

// Check returns nil when r may be upgraded, and an [*topics.Error] (403) which
// says what to do otherwise. It believes no header of a proxy.
//
// In Dev the Host must be loopback, Origin or not: a foreign page whose name
// was made to point to this machine (DNS rebinding) is of the same origin.
func (o Origins) Check(r *http.Request) error {
	if host, _ := splitHost(r.Host); o.Dev && !loopback(host) {
		return topics.Errorf(topics.Forbidden, "host %s is not loopback: with --dev the server is there for localhost only", Excerpt(r.Host))
	}
	header := r.Header.Values("Origin")
	if len(header) == 0 {
		return nil
	}
	if len(header) > 1 {
		return topics.Errorf(topics.Forbidden, "%d Origin headers, there may be one", len(header))
	}
	from, err := parseOrigin(header[0])
	if err != nil {
		return topics.Errorf(topics.Forbidden, "origin %s is not allowed: %v", Excerpt(header[0]), err)
	}
	// A page that came without TLS could be anybody's; where TLS ends here it is not
	// the server's own.
	if own := r.TLS == nil || from.scheme == "https"; own && from.isHost(r.Host) || o.Dev && from.web() && loopback(from.host) {
		return nil
	}
	for _, a := range o.Allowed {
		if allowed, err := parseOrigin(a); err == nil && allowed == from {
			return nil
		}
	}
	return topics.Errorf(topics.Forbidden, "origin %s is not allowed: pages of other hosts need --origin %s at the server", header[0], header[0])
}

// origin is a scheme, a host in lower case and a port, the scheme's own if none
// was given (RFC 6454, section 4).
type origin struct{ scheme, host, port string }

func (o origin) web() bool { return o.scheme == "http" || o.scheme == "https" }

// isHost reports whether o is the host and port of a Host header. Which scheme
// a proxy in front was asked by is not known, so the scheme does not count.
func (o origin) isHost(hostport string) bool {
	host, port := splitHost(hostport)
	if port == "" {
		port = defaultPort(o.scheme)
	}
	return o.web() && host != "" && o.host == host && o.port == port
}

func parseOrigin(s string) (origin, error) {
	switch s {
	case "null":
		return origin{}, errors.New("a page without an origin (a file, a sandboxed frame) cannot be told from any other; serve it by http")
	case "*":
		return origin{}, errors.New("there is no wildcard: list each origin")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || len(s) > maxOrigin ||
		!strings.EqualFold(s, u.Scheme+"://"+u.Host) || !plain(u.Host) {
		return origin{}, errors.New("it must be like https://app.example or http://10.0.0.5:8000, without user, path or trailing slash")
	}
	o := origin{scheme: u.Scheme}
	o.host, o.port = splitHost(u.Host)
	if o.host == "" {
		return origin{}, errors.New("its host or port is malformed")
	}
	if o.port == "" {
		o.port = defaultPort(o.scheme)
	}
	return o, nil
}

// maxOrigin is the length of the longest origin in bytes: a name has 253.
const maxOrigin = 300

// plain reports whether a host is written as browsers write it: punycode, and
// nothing escaped.
func plain(host string) bool {
	for i := 0; i < len(host); i++ {
		if c := host[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`%@/\?#,"<>`, c) >= 0 {
			return false
		}
	}
	return true
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

// splitHost takes "host", "host:port", "[v6]" or "[v6]:port" apart: the host in
// lower case and an address in its usual form, the port "" when none is given.
// The host is "" when it is malformed.
func splitHost(hostport string) (host, port string) {
	host = hostport
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host, port = hostport[:i], hostport[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return "", ""
		}
	}
	inner, bracketed := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	ip, err := netip.ParseAddr(inner)
	switch v6 := err == nil && ip.Is6(); {
	case bracketed != closed, bracketed != v6:
		return "", ""
	case err == nil:
		return ip.String(), port
	}
	return strings.ToLower(host), port
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
