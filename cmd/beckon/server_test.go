package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain runs the program itself when a test starts the test binary as one.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "BECKON_") && name != asProgram && name != asReference {
			os.Unsetenv(name)
		}
	}
	if os.Getenv(asProgram) != "" || slices.Equal(os.Args[1:], []string{"hash"}) { // the latter by a server in a test
		os.Unsetenv(asProgram)
		main()
	}
	if os.Getenv(asReference) != "" {
		runReference()
	}
	if os.Getenv("GORACE") == "" { // a program with the race detector waits a second before it ends
		os.Setenv("GORACE", "atexit_sleep_ms=50")
	}
	_ = flag.Set("test.parallel", atATime) // -parallel is read later
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(built())
		os.Exit(code)
	}))
}

// atATime is how many of the parallel tests run at a time, unless -parallel says
// so. It does not follow from the number of processors: they are parallel because
// they wait, for browsers and for time to pass. Who counts what the process has
// (goroutines, memory, sockets), or measures how fast it is, is not parallel, and so
// runs before all that are.
const atATime = "6"

// built is the folder for what several tests need, and which takes time to make.
var built = sync.OnceValue(func() string {
	folder, err := os.MkdirTemp("", "beckon-test-")
	if err != nil {
		panic(err)
	}
	return folder
})

const asProgram = "BECKON_TEST_AS_PROGRAM"

// testServer is a whole server in this process.
type testServer struct {
	Addrs  []string // of each --listen, "127.0.0.1:34567"
	MQTT   string   // the first of them, for an MQTT client
	URL    string   // "http://127.0.0.1:34567"
	WS     string   // "ws://127.0.0.1:34567/ws"
	WSS    string   // "wss://127.0.0.1:34567/ws", with --tls-cert
	Over   string   // "ws://127.0.0.1:34567/mqtt", MQTT over WebSocket
	Log    *logs
	Reload chan os.Signal // SIGHUP

	stop func()
	done chan struct{}
	err  error // of serve, when done
}

// startServer runs "beckon serve --dev --listen 127.0.0.1:0" with further args,
// which may replace the address, or --dev by accounts, until the test ends.
func startServer(t testing.TB, args ...string) *testServer {
	t.Helper()
	all := []string{"serve", "--log-level=debug"}
	if !slices.ContainsFunc(args, func(a string) bool {
		return strings.HasPrefix(a, "--users") || strings.HasPrefix(a, "--jwt-key") || strings.HasPrefix(a, "--auth-url")
	}) {
		all = append(all, "--dev")
	}
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--listen") }) {
		all = append(all, "--listen=127.0.0.1:0")
	}
	// Tests talk faster than people; the budget has tests of its own.
	all = append(all, "--limit-rate=0", "--limit-joins=0", "--limit-connects-per-identity=0")
	c := parse(t, append(all, args...)...)
	ctx, cancel := context.WithCancel(context.Background())
	s := &testServer{Log: new(logs), Reload: make(chan os.Signal), stop: cancel, done: make(chan struct{})}
	ready := make(chan []net.Addr, 1)
	go func() {
		defer close(s.done)
		s.err = c.Serve.serve(ctx, s.Log, s.Reload, func(addrs []net.Addr) { ready <- addrs })
	}()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.Log)
		}
	})
	select {
	case addrs := <-ready:
		for _, a := range addrs {
			s.Addrs = append(s.Addrs, a.String())
		}
	case <-s.done:
		t.Fatalf("the server did not start: %v", s.err)
	}
	s.MQTT = s.Addrs[0]
	s.URL, s.WS, s.WSS, s.Over = "http://"+s.MQTT, "ws://"+s.MQTT+"/ws", "wss://"+s.MQTT+"/ws", "ws://"+s.MQTT+"/mqtt"
	return s
}

// Stop drains the server as SIGTERM does, and waits for its end.
func (s *testServer) Stop() error {
	s.stop()
	<-s.done
	return s.err
}

// parse reads a command line that must be right.
func parse(t testing.TB, args ...string) *commands {
	t.Helper()
	c := new(commands)
	parser, err := newParser(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

// logs collects what a server says.
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

// writeCertificate makes a certificate for localhost and returns the files of
// it and its key.
func writeCertificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = writeFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key = writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return cert, key
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
