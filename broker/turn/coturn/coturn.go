// Package coturn starts a real coturn for tests, as an operator has it: with
// credentials that end (use-auth-secret).
package coturn

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Realm is that of the server.
const Realm = "coturn.test"

// Start starts coturn on a free port of 127.0.0.1 until the test ends, and
// returns its address. It relays to loopback, too.
func Start(t testing.TB, secret string) (addr string) {
	t.Helper()
	program, err := exec.LookPath("turnserver")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("coturn is not installed, and CI=true: apt-get install coturn")
		}
		t.Skip("skipped: coturn is not installed (Debian: apt-get install coturn)")
	}
	for range 5 { // somebody may take the port that was free
		if addr, said := start(t, program, secret); addr != "" {
			return addr
		} else if !strings.Contains(said, "Address already in use") {
			t.Fatalf("coturn did not start:\n%s", said)
		}
	}
	t.Fatal("coturn finds no free port")
	return ""
}

func start(t testing.TB, program, secret string) (addr, said string) {
	t.Helper()
	port := freePort(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "turnserver.conf")
	// With threads, requests of one client now and then meet another thread, which
	// does not know the nonce (438); pion's client does not ask again.
	text := fmt.Sprintf(`listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port=%d
realm=%s
use-auth-secret
static-auth-secret=%s
allow-loopback-peers
cli-password=not-used-%d
no-cli
no-tls
no-dtls
no-rfc5780
relay-threads=0
userdb=%s
pidfile=%s
log-file=stdout
simple-log
verbose
`, port, Realm, secret, os.Getpid(), filepath.Join(dir, "turndb"), filepath.Join(dir, "pid"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", config)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	left, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-left: // nobody reads any more
			}
		}
	}()
	stop := func() {
		_ = cmd.Process.Kill() // by its pid
		<-ended
		_ = cmd.Wait()
	}
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	opened := map[string]bool{}
	for {
		select {
		case line, ok := <-lines:
			said += line + "\n"
			for _, protocol := range []string{"UDP", "TCP"} {
				if strings.Contains(line, protocol+" listener opened on") {
					opened[protocol] = true
				}
			}
			if !ok || strings.Contains(line, "Address already in use") {
				close(left)
				stop()
				return "", said
			}
			if opened["UDP"] && opened["TCP"] {
				close(left)
				t.Cleanup(stop)
				return fmt.Sprintf("127.0.0.1:%d", port), said
			}
		case <-late.C:
			close(left)
			stop()
			return "", said
		}
	}
}

// freePort is a port that is free for UDP and TCP.
func freePort(t testing.TB) int {
	t.Helper()
	for range 20 {
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		_ = tcp.Close()
		if err == nil {
			_ = udp.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
