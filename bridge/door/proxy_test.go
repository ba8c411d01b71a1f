package door

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// trusted are the proxies of these tests: 192.0.2.0/24, an IPv6 one, and loopback.
var trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("127.0.0.1/32")}

// binaryHeader is a PROXY header (version 2) with these extensions.
func binaryHeader(command, family byte, addresses string, fields ...string) string {
	body := addresses + strings.Join(fields, "")
	return proxyBinary + string(binary.BigEndian.AppendUint16([]byte{command, family}, uint16(len(body)))) + body
}

func field(kind byte, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))) + value
}

// summed is a header with its checksum, changed by so much.
func summed(by uint32) string {
	h := binaryHeader(0x21, 0x11, from4, field(3, "\x00\x00\x00\x00"))
	sum := binary.BigEndian.AppendUint32(nil, by+crc32.Checksum([]byte(h), crc32.MakeTable(crc32.Castagnoli)))
	return strings.TrimSuffix(h, "\x00\x00\x00\x00") + string(sum)
}

const (
	from4    = "\xcb\x00\x71\x07" + "\xc0\x00\x02\x01" + "\x10\x00" + "\x07\x5b" // 203.0.113.7:4096
	from6    = "\x20\x01\x0d\xb8\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x10\x00" + "\x07\x5b"
	fromHere = "\x7f\x00\x00\x01" + "\xc0\x00\x02\x01" + "\x10\x00" + "\x07\x5b"
	ofTLS    = "\x01\x00\x00\x00\x01"
	ofClear  = "\x00\x00\x00\x00\x01"
)

// proxyHeaders are headers, and whom a connection through 192.0.2.1 is from then;
// "": it is refused.
var proxyHeaders = map[string]struct{ header, client string }{
	"none":                    {"", "192.0.2.1:5"},
	"line, IPv4":              {"PROXY TCP4 203.0.113.7 192.0.2.1 4096 1883\r\n", "203.0.113.7:4096"},
	"line, IPv6":              {"PROXY TCP6 2001:db8:7::9 2001:db8::1 4096 1883\r\n", "[2001:db8:7::9]:4096"},
	"line, unknown":           {"PROXY UNKNOWN\r\n", "192.0.2.1:5"},
	"line, unknown with more": {"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "192.0.2.1:5"},
	"line, loopback of other": {"PROXY TCP4 127.0.0.1 192.0.2.1 4096 1883\r\n", "192.0.2.1:5"},
	"line, no CR":             {"PROXY TCP4 203.0.113.7 192.0.2.1 4096 1883\n", ""},
	"line, no end":            {"PROXY TCP4 203.0.113.7 192.0.2.1 4096 1883" + strings.Repeat(" ", 100), ""},
	"line, no ports":          {"PROXY TCP4 203.0.113.7 192.0.2.1\r\n", ""},
	"line, port too high":     {"PROXY TCP4 203.0.113.7 192.0.2.1 65536 1883\r\n", ""},
	"line, UDP":               {"PROXY UDP4 203.0.113.7 192.0.2.1 4096 1883\r\n", ""},
	"line, no address":        {"PROXY TCP4 cam1 192.0.2.1 4096 1883\r\n", ""},
	"line, any address":       {"PROXY TCP4 0.0.0.0 192.0.2.1 4096 1883\r\n", ""},
	"line, of other family":   {"PROXY TCP6 203.0.113.7 192.0.2.1 4096 1883\r\n", ""},
	"line, two spaces":        {"PROXY TCP4  203.0.113.7 192.0.2.1 4096 1883\r\n", ""},
	"binary, IPv4":            {binaryHeader(0x21, 0x11, from4), "203.0.113.7:4096"},
	"binary, IPv6":            {binaryHeader(0x21, 0x21, from6), "[2001:db8:7::9]:4096"},
	"binary, extensions":      {binaryHeader(0x21, 0x11, from4, field(0x20, ofTLS), field(1, "mqtt"), field(4, "\x00\x00")), "203.0.113.7:4096"},
	"binary, a checksum":      {summed(0), "203.0.113.7:4096"},
	"binary, another sum":     {summed(1), ""},
	"binary, short sum":       {binaryHeader(0x21, 0x11, from4, field(3, "\x00")), ""},
	"binary, local":           {binaryHeader(0x20, 0x00, ""), "192.0.2.1:5"},
	"binary, local with more": {binaryHeader(0x20, 0x11, from4), "192.0.2.1:5"},
	"binary, loopback":        {binaryHeader(0x21, 0x11, fromHere), "192.0.2.1:5"},
	"binary, UDP":             {binaryHeader(0x21, 0x12, from4), ""},
	"binary, no family":       {binaryHeader(0x21, 0x13, from4), ""},
	"binary, a path":          {binaryHeader(0x21, 0x31, strings.Repeat("\x00", 216)), ""},
	"binary, short address":   {binaryHeader(0x21, 0x11, from4[:11]), ""},
	"binary, cut extension":   {binaryHeader(0x21, 0x11, from4, "\x01\x00\x09x"), ""},
	"binary, version 3":       {binaryHeader(0x31, 0x11, from4), ""},
	"binary, too long":        {binaryHeader(0x21, 0x11, from4, field(4, strings.Repeat("\x00", 4096))), ""},
	"binary, twice":           {binaryHeader(0x21, 0x11, from4) + binaryHeader(0x21, 0x11, from4), ""},
}

// startBehind is a door behind the proxies of these tests, and a listener from
// any address. MQTT says who is there instead of a CONNACK.
func startBehind(t *testing.T, config Config) *pipes {
	t.Helper()
	config.TrustedProxies = trusted
	config.MQTT = func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(connect))); err == nil {
			fmt.Fprintln(c, c.RemoteAddr())
		}
		c.Close()
	}
	if config.HTTP == nil {
		config.HTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	}
	d, p := start(t, config), newPipes()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(p)
	}()
	t.Cleanup(func() {
		d.Close()
		<-done
	})
	return p
}

// say writes to c without waiting, since a door may close c half-way.
func say(c net.Conn, text string) {
	go io.WriteString(c, text)
}

func TestClientBehindTheProxyProtocolHasItsOwnAddress(t *testing.T) {
	for name, h := range proxyHeaders {
		for _, over := range []string{"MQTT", "MQTT over TLS", "HTTP"} {
			t.Run(name+" before "+over, func(t *testing.T) {
				p := startBehind(t, Config{TLS: serverTLS()})
				var c net.Conn = p.connect("192.0.2.1:5")
				defer c.Close()
				c.SetDeadline(time.Now().Add(30 * time.Second))
				got := ""
				switch over {
				case "MQTT":
					say(c, h.header+string(connect))
					all, _ := io.ReadAll(c)
					got = strings.TrimSpace(string(all))
				case "MQTT over TLS":
					if _, err := io.WriteString(c, h.header); err != nil {
						break // refused already
					}
					c = tls.Client(c, clientTLS())
					c.Write(connect)
					all, _ := io.ReadAll(c)
					got = strings.TrimSpace(string(all))
				case "HTTP":
					say(c, h.header+"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
					if r, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && r.StatusCode == 200 {
						all, _ := io.ReadAll(r.Body)
						got = string(all)
					}
				}
				if got != h.client {
					t.Errorf("from %q, want %q", got, h.client)
				}
			})
		}
	}
}

func TestProxyHeaderOfAStrangerIsRefusedAndTheLogSaysWhy(t *testing.T) {
	for _, from := range []string{"198.51.100.1:5", "[2001:db8:1::1]:5", "127.0.0.2:5"} {
		for _, name := range []string{"line, IPv4", "binary, IPv4", "binary, local"} {
			var log logs
			p := startBehind(t, Config{Logger: log.logger()})
			c := p.connect(from)
			c.SetDeadline(time.Now().Add(30 * time.Second))
			say(c, proxyHeaders[name].header+string(connect))
			if all, _ := io.ReadAll(c); len(all) > 0 {
				t.Errorf("%s: %q", name, all)
			}
			if !strings.Contains(log.String(), "--trusted-proxy") || !strings.Contains(log.String(), from) {
				t.Errorf("%s of %s, log:\n%s", name, from, log.String())
			}
			c.Close()
		}
	}
}

func TestMalformedProxyHeaderIsTheReasonInTheLog(t *testing.T) {
	var log logs
	p := startBehind(t, Config{Logger: log.logger()})
	c := p.connect("192.0.2.1:5")
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	say(c, summed(1))
	io.ReadAll(c)
	if !strings.Contains(log.String(), "PROXY header is malformed: its checksum") {
		t.Error(log.String())
	}
}

func TestHalfAProxyHeaderHasTheTimeOfAHandshake(t *testing.T) {
	for _, half := range []string{"P", "PROXY TCP4 203.0.113.7 ", "\r\n\r\n", proxyBinary + "\x21\x11\x00\x0c\x01"} {
		synctest.Test(t, func(t *testing.T) {
			d := start(t, Config{TrustedProxies: trusted})
			p := newPipes()
			go d.Serve(p)
			begin := time.Now()
			c := p.connect("192.0.2.1:5")
			say(c, half)
			io.Copy(io.Discard, c)
			if took := time.Since(begin); took != 10*time.Second {
				t.Errorf("%q: closed after %v", half, took)
			}
			d.Close()
			c.Close()
		})
	}
}

func TestRequestsThatBeginLikeAProxyHeaderAreRequests(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "PATCH", "PROPFIND", "PRO"} {
		p := startBehind(t, Config{})
		c := p.connect("192.0.2.1:5")
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say(c, method+" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
			t.Errorf("%s: %v, %v", method, r, err)
		}
		c.Close()
	}
}

func TestCapsPerAddressAreOfTheClientsBehindAProxy(t *testing.T) {
	for name, test := range map[string]struct {
		from, header string
		want         int // of 6 connections stay
	}{
		"one client":                {"192.0.2.1:5", "PROXY TCP4 203.0.113.7 192.0.2.1 4096 1883\r\n", 2},
		"one behind loopback":       {"127.0.0.1:5", "PROXY TCP4 203.0.113.7 192.0.2.1 4096 1883\r\n", 2},
		"several":                   {"192.0.2.1:5", "PROXY TCP4 203.0.113.%d 192.0.2.1 4096 1883\r\n", 6},
		"loopback behind loopback":  {"127.0.0.1:5", "PROXY TCP4 127.0.0.1 127.0.0.1 4096 1883\r\n", 6},
		"loopback of another":       {"192.0.2.1:5", "PROXY TCP4 127.0.0.1 192.0.2.1 4096 1883\r\n", 2},
		"unknown behind a stranger": {"192.0.2.1:5", "PROXY UNKNOWN\r\n", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := start(t, Config{TrustedProxies: trusted, UnauthenticatedPerAddress: 2})
				p := newPipes()
				go d.Serve(p)
				for i := range 6 {
					header := test.header
					if strings.Contains(header, "%d") {
						header = fmt.Sprintf(header, i)
					}
					c := p.connect(test.from)
					defer c.Close()
					say(c, header+"\x10")
				}
				synctest.Wait()
				d.mu.Lock()
				waiting, open := d.waiting, len(d.conns)
				d.mu.Unlock()
				if waiting != test.want || open != test.want {
					t.Errorf("%d waiting and %d open, want %d", waiting, open, test.want)
				}
				d.Close()
				if d.waiting != 0 || len(d.waitingAt) != 0 {
					t.Errorf("after Close %d waiting, %v", d.waiting, d.waitingAt)
				}
			})
		})
	}
}

func TestTLSOnlyBelievesATrustedProxyAboutItsClient(t *testing.T) {
	tlsField, clearField := field(0x20, ofTLS), field(0x20, ofClear)
	for name, test := range map[string]struct {
		from, header string // MQTT
		request      string // or headers of a request
		ok           bool
	}{
		"line":                        {"127.0.0.1:5", proxyHeaders["line, IPv4"].header, "", false},
		"binary with TLS":             {"192.0.2.1:5", binaryHeader(0x21, 0x11, from4, tlsField), "", true},
		"binary without TLS":          {"192.0.2.1:5", binaryHeader(0x21, 0x11, from4, clearField), "", false},
		"binary, loopback, clear":     {"127.0.0.1:5", binaryHeader(0x21, 0x11, fromHere, clearField), "", false},
		"binary that does not say":    {"192.0.2.1:5", binaryHeader(0x21, 0x11, from4), "", false},
		"no header":                   {"192.0.2.1:5", "", "", false},
		"no header, loopback":         {"127.0.0.1:5", "", "", true},
		"request over TLS":            {"192.0.2.1:5", "", "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n", true},
		"request, Forwarded":          {"192.0.2.1:5", "", "Forwarded: for=203.0.113.7;proto=https\r\n", true},
		"request in the clear":        {"127.0.0.1:5", "", "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n", false},
		"request that does not say":   {"127.0.0.1:5", "", "X-Forwarded-For: 203.0.113.7\r\n", false},
		"request half in the clear":   {"192.0.2.1:5", "", "X-Forwarded-Proto: https, http\r\n", false},
		"request of a stranger":       {"198.51.100.1:5", "", "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n", false},
		"request behind both":         {"192.0.2.1:5", binaryHeader(0x21, 0x11, from4, tlsField), "X-Forwarded-Proto: http\r\n", true},
		"request on loopback, silent": {"127.0.0.1:5", "", "X: y\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := startBehind(t, Config{TLS: serverTLS(), TLSOnly: true})
			c := p.connect(test.from)
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			if test.request == "" {
				say(c, test.header+string(connect))
				answer := make([]byte, 1)
				io.ReadFull(c, answer)
				if ok := answer[0] != 0x20; ok != test.ok {
					t.Errorf("let in: %v, want %v", ok, test.ok)
				}
				return
			}
			say(c, test.header+"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+test.request+"\r\n")
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if ok := r.StatusCode == 200; ok != test.ok {
				t.Errorf("status %d, let in: want %v", r.StatusCode, test.ok)
			}
		})
	}
}

// A header is refused, or is one that begins with what it was read from; no byte
// after it is taken.
func FuzzProxyHeader(f *testing.F) {
	for _, h := range proxyHeaders {
		f.Add([]byte(h.header))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, begin := range []string{proxyLine, proxyBinary} {
			if !bytes.HasPrefix(raw, []byte(begin)) {
				continue
			}
			r := bytes.NewReader(append(bytes.Clone(raw), "and more"...))
			h, err := readHeader(r, begin)
			if err != nil {
				continue
			}
			if !bytes.HasPrefix(append(bytes.Clone(raw), "and more"...), h.raw) || r.Len() != len(raw)+len("and more")-len(h.raw) {
				t.Errorf("%q: read as %q, and %d bytes are left", raw, h.raw, r.Len())
			}
			if a, _, err := h.client(); err == nil && a.IsValid() && a.Addr().Is4In6() {
				t.Errorf("%q: %v", raw, a)
			}
		}
	})
}
