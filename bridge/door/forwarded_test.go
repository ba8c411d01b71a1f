package door

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// forwardings are headers of a request through 192.0.2.1, and whom it is from
// then; "": it is refused.
var forwardings = map[string]struct{ headers, client string }{
	"none":                      {"", "192.0.2.1:5"},
	"one address":               {"X-Forwarded-For: 203.0.113.7", "203.0.113.7:0"},
	"with a port":               {"X-Forwarded-For: 203.0.113.7:99", "203.0.113.7:99"},
	"IPv6":                      {"X-Forwarded-For: 2001:db8:7::9", "[2001:db8:7::9]:0"},
	"IPv6 in brackets":          {"X-Forwarded-For: [2001:db8:7::9]", "[2001:db8:7::9]:0"},
	"IPv6 with a port":          {"X-Forwarded-For: [2001:db8:7::9]:99", "[2001:db8:7::9]:99"},
	"mapped":                    {"X-Forwarded-For: ::ffff:203.0.113.7", "203.0.113.7:0"},
	"forged before":             {"X-Forwarded-For: 1.2.3.4, 203.0.113.7", "203.0.113.7:0"},
	"garbage before":            {"X-Forwarded-For: '; drop, 203.0.113.7", "203.0.113.7:0"},
	"forged line before":        {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 203.0.113.7", "203.0.113.7:0"},
	"two proxies":               {"X-Forwarded-For: 1.2.3.4, 203.0.113.7,192.0.2.9", "203.0.113.7:0"},
	"trusted alone":             {"X-Forwarded-For: 192.0.2.8, 192.0.2.9", "192.0.2.8:0"},
	"unknown":                   {"X-Forwarded-For: 1.2.3.4, unknown", "192.0.2.1:5"},
	"unknown to another":        {"X-Forwarded-For: 1.2.3.4, unknown, 192.0.2.9", "192.0.2.9:0"},
	"loopback of another":       {"X-Forwarded-For: 127.0.0.1", "192.0.2.1:5"},
	"any address":               {"X-Forwarded-For: 0.0.0.0", ""},
	"a name":                    {"X-Forwarded-For: 203.0.113.7, cam1", ""},
	"empty":                     {"X-Forwarded-For:", ""},
	"empty at the end":          {"X-Forwarded-For: 203.0.113.7,", ""},
	"a zone":                    {"X-Forwarded-For: fe80::1%eth0", ""},
	"brackets for IPv4":         {"X-Forwarded-For: [203.0.113.7]", ""},
	"another header":            {"X-Real-Ip: 203.0.113.7\r\nX-Forwarded-Host: a", "192.0.2.1:5"},
	"standard":                  {"Forwarded: for=203.0.113.7", "203.0.113.7:0"},
	"standard, all":             {`Forwarded: By=192.0.2.1 ; For="203.0.113.7:99";Proto=http;host="a.example:80"`, "203.0.113.7:99"},
	"standard, IPv6":            {`Forwarded: for="[2001:db8:7::9]:99"`, "[2001:db8:7::9]:99"},
	"standard, hidden port":     {`Forwarded: for="[2001:db8:7::9]:_x"`, "[2001:db8:7::9]:0"},
	"standard, forged before":   {"Forwarded: for=1.2.3.4, for=203.0.113.7", "203.0.113.7:0"},
	"standard, two proxies":     {"Forwarded: for=1.2.3.4\r\nForwarded: for=203.0.113.7\r\nForwarded: for=192.0.2.9", "203.0.113.7:0"},
	"standard, hidden":          {"Forwarded: for=1.2.3.4, for=_cam", "192.0.2.1:5"},
	"standard, unknown":         {"Forwarded: for=unknown", "192.0.2.1:5"},
	"standard, no for":          {"Forwarded: proto=https", "192.0.2.1:5"},
	"standard, open quote":      {`Forwarded: for="_a, for=203.0.113.7`, ""},
	"standard, eats a quote":    {`Forwarded: for="_a, for="[2001:db8:7::9]"`, ""},
	"standard, for twice":       {"Forwarded: for=1.2.3.4;for=203.0.113.7", ""},
	"standard, no brackets":     {`Forwarded: for="2001:db8:7::9"`, ""},
	"standard, no name":         {"Forwarded: 203.0.113.7", ""},
	"standard, no value":        {"Forwarded: for=", ""},
	"standard, empty":           {"Forwarded:", ""},
	"standard, ends early":      {"Forwarded: for=203.0.113.7,", ""},
	"standard, odd scheme":      {"Forwarded: for=203.0.113.7;proto=gopher", ""},
	"both, the same":            {"Forwarded: for=203.0.113.7\r\nX-Forwarded-For: 1.2.3.4, 203.0.113.7", "203.0.113.7:0"},
	"both, one of the client":   {"Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 203.0.113.7", ""},
	"scheme, odd":               {"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: gopher", ""},
	"scheme without an address": {"X-Forwarded-Proto: https", "192.0.2.1:5"},
}

// ask sends a request with these headers through a door from an address.
func ask(t *testing.T, p *pipes, from, headers string) *http.Response {
	t.Helper()
	c := p.connect(from)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if headers != "" {
		headers += "\r\n"
	}
	say(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+headers+"\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequestThroughATrustedProxyIsFromItsClient(t *testing.T) {
	for name, f := range forwardings {
		t.Run(name, func(t *testing.T) {
			var log logs
			p := startBehind(t, Config{Logger: log.logger()})
			r := ask(t, p, "192.0.2.1:5", f.headers)
			body, _ := io.ReadAll(r.Body)
			switch {
			case f.client == "" && (r.StatusCode != 400 || !strings.Contains(log.String(), "request of a trusted proxy refused")):
				t.Errorf("status %d, %s, log %q", r.StatusCode, body, log.String())
			case f.client != "" && string(body) != f.client:
				t.Errorf("from %s, want %s", body, f.client)
			}
		})
	}
}

func TestForwardedHeadersOfAStrangerAreIgnored(t *testing.T) {
	for name, f := range forwardings {
		p := startBehind(t, Config{})
		r := ask(t, p, "198.51.100.1:5", f.headers)
		if body, _ := io.ReadAll(r.Body); string(body) != "198.51.100.1:5" {
			t.Errorf("%s: from %s", name, body)
		}
	}
}

func TestForwardedHeaderBehindTheProxyProtocolCountsFromThere(t *testing.T) {
	for header, want := range map[string]string{
		"PROXY TCP4 203.0.113.7 192.0.2.1 99 80\r\n": "203.0.113.7:99", // no proxy: it is not believed
		"PROXY TCP4 192.0.2.9 192.0.2.1 99 80\r\n":   "198.51.100.8:0", // one behind another
	} {
		p := startBehind(t, Config{})
		c := p.connect("192.0.2.1:5")
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say(c, header+"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.8\r\nConnection: close\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(r.Body); string(body) != want {
			t.Errorf("%q: from %s, want %s", header, body, want)
		}
		c.Close()
	}
}

func TestWebSocketThroughAProxyIsItsClientsAndCountsForIt(t *testing.T) {
	remote := make(chan string, 1)
	h, err := MQTT(WebSocketConfig{Serve: func(c net.Conn) {
		remote <- c.RemoteAddr().String()
		io.Copy(io.Discard, c)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	addr := listen(t, start(t, Config{HTTP: h, TrustedProxies: trusted, UnauthenticatedPerAddress: 1}))
	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	open := func(client string) (*websocket.Conn, error) {
		c, answer, err := dialer.Dial("ws://"+addr, http.Header{"X-Forwarded-For": {client}})
		if answer != nil {
			answer.Body.Close()
		}
		return c, err
	}
	for _, client := range []string{"203.0.113.7", "203.0.113.8", "2001:db8:7::9"} {
		c, err := open(client)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := <-remote; !strings.Contains(got, client) {
			t.Errorf("from %s, want %s", got, client)
		}
		if c, err := open(client); err == nil {
			t.Errorf("a second one of %s has a place, with a limit of 1", client)
			c.Close()
		}
	}
}

// What is read of a header does not depend on what a client wrote before the
// part of its proxy.
func FuzzForwarded(f *testing.F) {
	for _, w := range forwardings {
		f.Add(w.headers)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := &Door{config: Config{TrustedProxies: trusted}}
		if h, err := d.lastOf(strings.Split(s+",203.0.113.7", ",")); err != nil || h.client.Addr().String() != "203.0.113.7" {
			t.Errorf("X-Forwarded-For %q: %v, %v", s, h, err)
		}
		if hops, err := forwarded(s + `, for="203.0.113.7:9"`); err == nil && d.last(hops).client.String() != "203.0.113.7:9" {
			t.Errorf("Forwarded %q: %v", s, hops)
		}
		for _, r := range []string{s, strings.TrimSpace(s)} {
			node(r)
			forNode(r)
			forwarded(r)
		}
	})
}
