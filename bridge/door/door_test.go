package door

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestEachProtocolIsKnownByItsFirstByteOnOneListener(t *testing.T) {
	addr := listen(t, start(t, Config{TLS: serverTLS()}))
	overTLS := func(protocols ...string) net.Conn {
		c := tls.Client(dial(t, addr), clientTLS(protocols...))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("MQTT", func(t *testing.T) { wantMQTT(t, dial(t, addr)) })
	t.Run("MQTT over TLS", func(t *testing.T) { wantMQTT(t, overTLS()) })
	t.Run("MQTT over TLS with ALPN", func(t *testing.T) {
		c := overTLS("mqtt")
		if p := c.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "mqtt" {
			t.Errorf("negotiated %q", p)
		}
		wantMQTT(t, c)
	})
	t.Run("HTTP", func(t *testing.T) { wantHTTP(t, dial(t, addr), "") })
	t.Run("HTTP over TLS", func(t *testing.T) { wantHTTP(t, overTLS(), "/tls") })
	t.Run("HTTP over TLS with ALPN", func(t *testing.T) { wantHTTP(t, overTLS("h2", "http/1.1"), "http/1.1/tls") })
	t.Run("neither", func(t *testing.T) {
		c := dial(t, addr)
		c.Write([]byte("\x00\x01\x02"))
		wantClosed(t, c)
	})
	t.Run("neither, inside TLS", func(t *testing.T) {
		c := overTLS()
		c.Write([]byte{0x16})
		wantClosed(t, c)
	})
}

func wantHTTP(t *testing.T, c net.Conn, over string) {
	t.Helper()
	answers := bufio.NewReader(c)
	for range 2 { // the connection is kept
		fmt.Fprintf(c, "GET /there HTTP/1.1\r\nHost: x\r\n\r\n")
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		if string(body) != "hello /there" || r.Header.Get("Over") != over {
			t.Errorf("answer %q over %q, want it over %q", body, r.Header.Get("Over"), over)
		}
	}
}

func TestTLSWithoutACertificateIsClosedAndTheLogSaysWhatIsNeeded(t *testing.T) {
	var log logs
	addr := listen(t, start(t, Config{Logger: log.logger()}))
	for range 3 {
		if err := tls.Client(dial(t, addr), clientTLS()).Handshake(); err == nil {
			t.Fatal("handshake succeeded without a certificate")
		}
	}
	if n := strings.Count(log.String(), "no certificate is configured (--tls-cert"); n != 1 {
		t.Errorf("%d warnings, want one for all:\n%s", n, log.String())
	}
}

func TestTLSBefore12AndHTTP2OnlyClientsAreRefused(t *testing.T) {
	threat.Row(t, 28, 0)
	addr := listen(t, start(t, Config{TLS: serverTLS()}))
	old := clientTLS()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for _, config := range []*tls.Config{old, clientTLS("h2")} {
		if err := tls.Client(dial(t, addr), config).Handshake(); err == nil {
			t.Errorf("versions up to %x, protocols %v: handshake succeeded", config.MaxVersion, config.NextProtos)
		}
	}
}

// Each says a little, and some more every second.
func TestConnectionThatDoesNotGetToThePointIsClosedTenSecondsAfterAccept(t *testing.T) {
	threat.Row(t, 15, 0)
	for name, says := range map[string]struct{ first, more string }{
		"silence":           {},
		"half TLS hello":    {"\x16\x03\x01\x02\x00", "\x00"},
		"half CONNECT":      {"\x10\x20", "\x00"},
		"half HTTP header":  {"GET / HTTP/1.1\r\nHost: x\r\n", "X: y\r\n"},
		"half request line": {"G", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := start(t, Config{TLS: serverTLS(), MQTT: func(c net.Conn) {
					for { // a broker that is patient
						c.SetDeadline(time.Now().Add(time.Hour))
						if _, err := c.Read(make([]byte, 1)); err != nil {
							return
						}
					}
				}})
				p := newPipes()
				go d.Serve(p)
				begin := time.Now()
				c := p.connect("192.0.2.1:1000")
				var dripping sync.WaitGroup
				dripping.Go(func() {
					say := says.first
					for {
						if _, err := io.WriteString(c, say); err != nil {
							return
						}
						say = says.more
						time.Sleep(time.Second) // fake time
					}
				})
				io.Copy(io.Discard, c)
				if took := time.Since(begin); took != 10*time.Second {
					t.Errorf("closed after %v", took)
				}
				d.Close()
				c.Close()
				dripping.Wait()
			})
		})
	}
}

func TestConnectionWhoseFirstByteIsLateHasNoMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, Config{})
		p := newPipes()
		go d.Serve(p)
		begin := time.Now()
		c := p.connect("192.0.2.1:1000")
		time.Sleep(9 * time.Second)
		io.WriteString(c, "GET / HTTP/1.1\r\n")
		io.Copy(io.Discard, c)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("closed after %v", took)
		}
		d.Close()
	})
}

func TestRequestBodyThatDripsIsGivenUp(t *testing.T) {
	threat.Row(t, 15, threat.HTTP)
	synctest.Test(t, func(t *testing.T) {
		d := start(t, Config{})
		p := newPipes()
		go d.Serve(p)
		begin := time.Now()
		c := p.connect("192.0.2.1:1000")
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		io.Copy(io.Discard, c)
		if took := time.Since(begin); took > 11*time.Second {
			t.Errorf("closed after %v", took)
		}
		d.Close()
		c.Close()
		dripping.Wait()
	})
}

func TestAdmittedConnectionKeepsTheDeadlineOfItsUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, Config{MQTT: func(c net.Conn) {
			c.SetReadDeadline(time.Now().Add(45 * time.Second))
			c.Read(make([]byte, 1))
			c.Write(connack)
			c.Read(make([]byte, 1))
		}})
		p := newPipes()
		go d.Serve(p)
		begin := time.Now()
		c := p.connect("192.0.2.1:1000")
		c.Write(connect[:1])
		io.Copy(io.Discard, c)
		if took := time.Since(begin); took != 45*time.Second {
			t.Errorf("closed after %v, want the broker's 45 s", took)
		}
		d.Close()
	})
}

func TestAcceptErrorsAreTriedAgainWithPauses(t *testing.T) {
	threat.Row(t, 32, 0)
	synctest.Test(t, func(t *testing.T) {
		var log logs
		d := start(t, Config{Logger: log.logger()})
		p := newPipes()
		go d.Serve(p)
		begin := time.Now()
		noDescriptors := &net.OpError{Op: "accept", Err: syscall.EMFILE}
		for range 10 { // pauses of 5, 10, ... 640 ms, and then 1 s
			p.errors <- noDescriptors
		}
		c := p.connect("192.0.2.1:1000")
		if took := time.Since(begin); took < 2*time.Second || took > 5*time.Second {
			t.Errorf("10 errors took %v", took)
		}
		wantMQTT(t, c)
		p.errors <- noDescriptors // the pause is short again
		begin = time.Now()
		c2 := p.connect("192.0.2.1:1001")
		if took := time.Since(begin); took != 5*time.Millisecond {
			t.Errorf("the first error after a success paused for %v", took)
		}
		if n := strings.Count(log.String(), "cannot be accepted"); n != 1 {
			t.Errorf("%d log lines in a minute, want 1", n)
		}
		p.errors <- noDescriptors
		d.Close() // during a pause
		c.Close()
		c2.Close()
	})
}

func TestConnectionsThatAreNotAdmittedAreCapped(t *testing.T) {
	threat.Row(t, 14, 0)
	for name, test := range map[string]struct {
		config Config
		from   func(i int) string
		want   int // of 6 connections stay
	}{
		"in all":              {Config{Unauthenticated: 4}, func(i int) string { return fmt.Sprintf("192.0.2.%d:9", i) }, 4},
		"in all, loopback":    {Config{Unauthenticated: 4}, func(int) string { return "127.0.0.1:9" }, 4},
		"of an address":       {Config{UnauthenticatedPerAddress: 2}, func(int) string { return "192.0.2.1:9" }, 2},
		"of an IPv6 network":  {Config{UnauthenticatedPerAddress: 2}, func(i int) string { return fmt.Sprintf("[2001:db8::%d]:9", i+1) }, 2},
		"of IPv6 networks":    {Config{UnauthenticatedPerAddress: 2}, func(i int) string { return fmt.Sprintf("[2001:db8:%d::1]:9", i) }, 6},
		"of a mapped address": {Config{UnauthenticatedPerAddress: 2}, func(i int) string { return [2]string{"192.0.2.1:9", "[::ffff:192.0.2.1]:9"}[i%2] }, 2},
		"of loopback":         {Config{UnauthenticatedPerAddress: 2}, func(int) string { return "127.0.0.1:9" }, 6},
		"of IPv6 loopback":    {Config{UnauthenticatedPerAddress: 2}, func(int) string { return "[::1]:9" }, 6},
		"none":                {Config{Unauthenticated: -1, UnauthenticatedPerAddress: -1}, func(int) string { return "192.0.2.1:9" }, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := start(t, test.config)
				p := newPipes()
				go d.Serve(p)
				var conns []net.Conn
				for i := range 6 {
					conns = append(conns, p.connect(test.from(i)))
				}
				synctest.Wait()
				if d.waiting != test.want || len(d.conns) != test.want {
					t.Errorf("%d waiting and %d open, want %d", d.waiting, len(d.conns), test.want)
				}
				wantMQTT(t, conns[0]) // admitted, so there is room for another
				p.connect(test.from(0))
				synctest.Wait()
				if want := min(test.want, 6); d.waiting != want || len(d.conns) != want+1 {
					t.Errorf("after one was admitted %d waiting and %d open, want %d and %d", d.waiting, len(d.conns), want, want+1)
				}
				d.Close()
				if d.waiting != 0 || len(d.waitingAt) != 0 || len(d.conns) != 0 {
					t.Errorf("after Close %d waiting, %v, %d open", d.waiting, d.waitingAt, len(d.conns))
				}
				for _, c := range conns {
					c.Close()
				}
			})
		})
	}
}

func TestCloseEndsConnectionsInEveryState(t *testing.T) {
	hijacked := make(chan struct{})
	busy := make(chan struct{})
	d := start(t, Config{TLS: serverTLS(), HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hijack":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			close(hijacked)
			io.Copy(io.Discard, c)
			c.Close()
		case "/busy":
			close(busy)
			<-r.Context().Done()
		}
	})})
	addr := listen(t, d)
	mqtt := dial(t, addr)
	wantMQTT(t, mqtt)
	conns := []net.Conn{mqtt}
	for _, says := range []string{
		"", "\x16\x03\x01", "\x10", "G", "GET / HTTP/1.1\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", // idle afterwards
		"GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c := dial(t, addr)
		io.WriteString(c, says)
		conns = append(conns, c)
	}
	inTLS := tls.Client(dial(t, addr), clientTLS())
	if err := inTLS.Handshake(); err != nil {
		t.Fatal(err)
	}
	<-hijacked
	<-busy
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { d.Close() })
	}
	wg.Wait()
	for _, c := range append(conns, inTLS) {
		wantClosed(t, c)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the listener is open after Close")
	}
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	if err := d.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed door: %v", err)
	}
}

func TestShutdownLetsARequestInProgressFinish(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	d := start(t, Config{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-goOn
		io.WriteString(w, "done")
	})})
	addr := listen(t, d)
	c := dial(t, addr)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	ended := make(chan error)
	go func() { ended <- d.Shutdown(t.Context()) }()
	close(goOn)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != "done" {
		t.Errorf("body %q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownGivesUpWhenItsContextIsDone(t *testing.T) {
	asked := make(chan struct{})
	d := start(t, Config{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})})
	c := dial(t, listen(t, d))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	wantClosed(t, c)
}

func TestClosedListenerEndsServeAndNothingElse(t *testing.T) {
	d := start(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- d.Serve(l) }()
	c := dial(t, l.Addr().String())
	wantMQTT(t, c)
	l.Close()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error("the connection ended with the listener:", err)
	}
}

func TestPanicInAHandlerIsLoggedAndTheServerLives(t *testing.T) {
	var log logs
	addr := listen(t, start(t, Config{Logger: log.logger(), HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") })}))
	for range 2 {
		c := dial(t, addr)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		wantClosed(t, c)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "panic=oh") {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestHeaderLongerThan16KiBIsRefused(t *testing.T) {
	threat.Row(t, 22, threat.HTTP)
	threat.Row(t, 14, threat.HTTP)
	c := dial(t, listen(t, start(t, Config{})))
	go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("y", 17<<10))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answer %v, %v", r, err)
	}
	c.Close()
}

func TestNewReportsEveryMistake(t *testing.T) {
	_, err := New(Config{Handshake: -1, TLS: &tls.Config{}})
	for _, want := range []string{"MQTT", "HTTP", "certificate", "Handshake"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}
