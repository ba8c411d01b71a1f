package door

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/beckon-rtc/beckon/bridge"
)

// hop is what a proxy says of whom it had a request from.
type hop struct {
	client netip.AddrPort // not valid: it hides or does not know it
	said   encryption
}

type saidKey struct{} // of the encryption in a request's context

// encryptionOf is what a proxy has said of how the client of r came.
func encryptionOf(r *http.Request) encryption {
	if said, ok := r.Context().Value(saidKey{}).(encryption); ok {
		return said
	}
	return connOf(r).said
}

// clientOf is the address of the client of r.
func clientOf(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap().WithZone("")
}

// fromClient is r with the address of its client, when it came from a trusted
// proxy that says one. An error says what is wrong with its headers.
//
// A proxy may set one of Forwarded and X-Forwarded-For, and hand on what the
// client wrote into the other: so where both are there they must agree.
func (d *Door) fromClient(r *http.Request) (*http.Request, error) {
	via := clientOf(r)
	if !d.trusts(via) {
		return r, nil
	}
	var found []hop
	if lines := r.Header.Values("Forwarded"); lines != nil {
		hops, err := forwarded(strings.Join(lines, ","))
		if err != nil {
			return nil, fmt.Errorf("the header Forwarded is malformed: %w", err)
		}
		found = append(found, d.last(hops))
	}
	if lines := r.Header.Values("X-Forwarded-For"); lines != nil {
		h, err := d.lastOf(strings.Split(strings.Join(lines, ","), ","))
		if err != nil {
			return nil, fmt.Errorf("the header X-Forwarded-For is malformed: %w", err)
		}
		found = append(found, h)
	}
	if len(found) == 2 && found[0].client.Addr() != found[1].client.Addr() {
		return nil, errors.New("the headers Forwarded and X-Forwarded-For name different clients: have the proxy remove the one that it does not set")
	}
	if lines := r.Header.Values("X-Forwarded-Proto"); lines != nil {
		said, err := schemes(strings.Split(strings.Join(lines, ","), ","))
		if err != nil {
			return nil, fmt.Errorf("the header X-Forwarded-Proto is malformed: %w", err)
		}
		found = append(found, hop{said: said})
	}
	said := unsaid
	for _, h := range found {
		if said == unsaid || h.said == inClear {
			said = h.said
		}
	}
	if said != unsaid {
		r = r.WithContext(context.WithValue(r.Context(), saidKey{}, said))
	}
	if len(found) > 0 {
		client := found[0].client
		if a := client.Addr(); a.IsValid() && (!a.IsLoopback() || via.IsLoopback()) { // loopback of another machine is the proxy
			r = r.WithContext(r.Context()) // a request is not ours to change
			r.RemoteAddr = client.String()
		}
	}
	return r, nil
}

// last is the client in a chain of proxies: the last that is not trusted itself,
// since it may have made up whatever stands before it. One that hides its client
// ends the chain.
func (d *Door) last(hops []hop) (client hop) {
	for i := len(hops) - 1; i >= 0; i-- {
		if !hops[i].client.IsValid() {
			break
		}
		client = hops[i]
		if !d.trusts(client.client.Addr()) {
			break
		}
	}
	return client
}

// lastOf is last of an X-Forwarded-For, of which no more is read than counts: a
// client may have written what stands before it.
func (d *Door) lastOf(list []string) (client hop, err error) {
	for i := len(list) - 1; i >= 0; i-- {
		text := strings.Trim(list[i], " \t")
		if strings.EqualFold(text, "unknown") {
			break
		}
		if client.client, err = node(text); err != nil {
			return hop{}, err
		}
		if !d.trusts(client.client.Addr()) {
			break
		}
	}
	return client, nil
}

// schemes reads an X-Forwarded-Proto: one of the whole way, or one of each proxy.
func schemes(list []string) (said encryption, err error) {
	said = byTLS
	for _, s := range list {
		one, err := scheme(strings.Trim(s, " \t"))
		if err != nil {
			return unsaid, err
		}
		if one != byTLS {
			said = inClear
		}
	}
	return said, nil
}

func scheme(s string) (encryption, error) {
	switch strings.ToLower(s) {
	case "https", "wss":
		return byTLS, nil
	case "http", "ws":
		return inClear, nil
	}
	return unsaid, fmt.Errorf("%s is neither http nor https", bridge.Excerpt(s))
}

// node reads an address as proxies write it: 192.0.2.1, 192.0.2.1:80,
// 2001:db8::1, [2001:db8::1] or [2001:db8::1]:80.
func node(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		bare := s
		if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
			bare = strings.TrimSuffix(inner, "]")
		}
		var a netip.Addr
		if a, err = netip.ParseAddr(bare); err == nil && bare != s && !a.Is6() {
			err = errors.New("brackets are for IPv6")
		}
		at = netip.AddrPortFrom(a, 0)
	}
	a := at.Addr().Unmap()
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%s is not the address of a client", bridge.Excerpt(s))
	}
	return netip.AddrPortFrom(a, at.Port()), nil
}

// forwarded reads a Forwarded (RFC 7239, section 4), all of it: a quote that a
// client left open could swallow what its proxy has added.
func forwarded(s string) ([]hop, error) {
	hops := []hop{{}}
	seen := ""
	for rest := s; ; {
		name, value, after, err := parameter(rest)
		if err != nil {
			return nil, err
		}
		if strings.Contains(seen, " "+name+" ") {
			return nil, fmt.Errorf("%s is given twice", bridge.Excerpt(name))
		}
		seen += " " + name + " "
		here := &hops[len(hops)-1]
		switch name {
		case "for":
			if hidden := strings.EqualFold(value, "unknown") || strings.HasPrefix(value, "_"); !hidden { // section 6.3
				here.client, err = forNode(value)
			}
		case "proto":
			here.said, err = scheme(value)
		}
		if err != nil {
			return nil, err
		}
		switch {
		case after == "":
			return hops, nil
		case after[0] == ',':
			hops, seen = append(hops, hop{}), ""
		}
		rest = after[1:]
	}
}

// forNode is section 6: an IPv6 address has brackets, and a port may be hidden.
func forNode(s string) (netip.AddrPort, error) {
	if host, port, ok := strings.Cut(s, ":_"); ok && !strings.Contains(port, ":") {
		s = host
	}
	if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
		return netip.AddrPort{}, fmt.Errorf("%s has no brackets", bridge.Excerpt(s))
	}
	return node(s)
}

// parameter takes one "name=value" off s; after begins with the , or ; that
// follows. The name is in lower case.
func parameter(s string) (name, value, after string, err error) {
	s = strings.TrimLeft(s, " \t")
	name, s = token(s)
	if name == "" || s == "" || s[0] != '=' {
		return "", "", "", fmt.Errorf("%s, where it takes name=value", bridge.Excerpt(name+s))
	}
	if s = s[1:]; strings.HasPrefix(s, `"`) {
		value, s, err = quoted(s)
	} else if value, s = token(s); value == "" {
		err = fmt.Errorf("%s has no value", bridge.Excerpt(name))
	}
	if err != nil {
		return "", "", "", err
	}
	s = strings.TrimLeft(s, " \t")
	if s != "" && s[0] != ',' && s[0] != ';' {
		return "", "", "", fmt.Errorf("%s after a value", bridge.Excerpt(s))
	}
	return strings.ToLower(name), value, s, nil
}

// token is the longest one at the start of s (RFC 9110, section 5.6.2).
func token(s string) (string, string) {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// quoted takes a quoted string off s (RFC 9110, section 5.6.4).
func quoted(s string) (value, after string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("a quote is not closed")
}
