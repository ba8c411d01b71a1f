package door

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect is a CONNECT packet, and connack its answer (MQTT 3.1.1).
var (
	connect = []byte("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04cam1")
	connack = []byte("\x20\x02\x00\x00")
)

// serveMQTT stands in for the broker: it answers CONNECT and echoes the rest.
func serveMQTT(c net.Conn) {
	packet := make([]byte, len(connect))
	if _, err := io.ReadFull(c, packet); err != nil || !bytes.Equal(packet, connect) {
		return
	}
	c.Write(connack)
	io.Copy(struct{ io.Writer }{c}, c)
}

// serveHTTP says in a header whether the request came over TLS.
func serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS != nil {
		w.Header().Set("Over", r.TLS.NegotiatedProtocol+"/tls")
	}
	io.WriteString(w, "hello "+r.URL.Path)
}

// start returns a door with config's gaps filled, closed at cleanup.
func start(t *testing.T, config Config) *Door {
	t.Helper()
	if config.MQTT == nil {
		config.MQTT = serveMQTT
	}
	if config.HTTP == nil {
		config.HTTP = http.HandlerFunc(serveHTTP)
	}
	d, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// listen serves d on a TCP port of its own and returns the address.
func listen(t *testing.T, d *Door) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Serve(l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		d.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second)) // fails, rather than hangs
	return c
}

// pipes is a listener on which connect makes connections from any address; it
// works on the fake time of testing/synctest.
type pipes struct {
	conns  chan net.Conn
	errors chan error
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), errors: make(chan error), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) connect(from string) net.Conn {
	client, server := net.Pipe()
	p.conns <- fromAddr{server, net.TCPAddrFromAddrPort(addrPort(from))}
	return client
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.errors:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

type fromAddr struct {
	net.Conn
	addr net.Addr
}

func (c fromAddr) RemoteAddr() net.Addr { return c.addr }

// logs collects what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// certificate for 127.0.0.1 and clients that trust it. It is good at any time,
// since it may be made, for all tests, by one that runs on fake time.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
})

func serverTLS() *tls.Config {
	cert, _ := certificate()
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func clientTLS(protocols ...string) *tls.Config {
	_, pool := certificate()
	return &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: protocols}
}

// wantClosed reads until the other side has closed c.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Error("the connection was not closed")
	}
}

// wantMQTT says CONNECT and something after it, and reads the answers.
func wantMQTT(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write(connect); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len(connack)+2)
	if _, err := io.ReadFull(c, answer[:len(connack)]); err != nil {
		t.Fatal("no CONNACK:", err)
	}
	c.Write([]byte{0xc0, 0})
	if _, err := io.ReadFull(c, answer[len(connack):]); err != nil {
		t.Fatal("no echo:", err)
	}
	if want := append(bytes.Clone(connack), 0xc0, 0); !bytes.Equal(answer, want) {
		t.Errorf("answer %x, want %x", answer, want)
	}
}
