package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// The tests of the files threats_*_test.go attack a whole server. Each passes
// when the answer is right, the canaries heard all that they said to each other
// and nothing else, and goroutines and memory are back where they were.

// long has the attacks last as long as they may, rather than as CI has time for:
// go test ./cmd/beckon -run Threat -long -timeout 1h
var long = flag.Bool("long", false, "have attacks last minutes, not seconds")

// times is how often something is done: often with -long, otherwise seldom.
func times(seldom, often int) int {
	if *long {
		return often
	}
	return seldom
}

// besieged is a site under attack, and its canaries.
type besieged struct {
	*site
	*canaries
	goroutines int
	heap       uint64
}

// besiege starts a site, on which nobody is ever expected back, and notes what
// it takes.
func besiege(t *testing.T, args ...string) *besieged {
	t.Helper()
	b := &besieged{site: startSite(t, append([]string{"--grace=0", "--log-level=error"}, args...)...)}
	b.canaries = startCanaries(t, b.site)
	for _, at := range everyEntrance { // whatever is made but once
		b.caller(t, at, "early", "attic").leave()
	}
	b.sing()
	b.goroutines, b.heap = settledGoroutines(), inUse()
	return b
}

// unharmed demands that all is as it was before the attack, but for the memory of
// callers that were made for it.
func (b *besieged) unharmed(callers ...*caller) {
	t := b.canaries.mqtt.t
	t.Helper()
	b.sing()
	b.canaries.mqtt.quiet()
	b.canaries.json.quiet()
	eventually(t, fmt.Sprintf("%d goroutines, as before", b.goroutines), func() bool { return runtime.NumGoroutine() <= b.goroutines })
	most := uint64(4<<20) + uint64(len(callers))<<20 // pools, maps that have grown; what a caller heard
	eventually(t, "the memory to be free again", func() bool { return inUse() < b.heap+most })
	if log := b.Log.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has errors:\n%.3000s", log)
	}
}

// inUse is what the heap and the stacks hold, in bytes, when garbage is gone.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // what pools had
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// choir has the canaries sing until it is told to stop, and times it.
type choir struct {
	stop chan struct{}
	done chan struct{}
	took []time.Duration // of each song there and back
}

func (b *besieged) startChoir() *choir {
	c := &choir{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(25 * time.Millisecond) // within the budget of messages
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
			start := time.Now()
			b.sing()
			c.took = append(c.took, time.Since(start))
		}
	}()
	return c
}

// end stops it, and returns the middle one, the 99th of a hundred, and the worst.
func (c *choir) end() (p50, p99, worst time.Duration) {
	close(c.stop)
	<-c.done
	if len(c.took) == 0 {
		return 0, 0, 0
	}
	slices.Sort(c.took)
	return c.took[len(c.took)/2], c.took[len(c.took)*99/100], c.took[len(c.took)-1]
}

// quietly is what singing takes while nothing else goes on.
func (b *besieged) quietly() (p50, p99, worst time.Duration) {
	c := b.startChoir()
	eventually(b.canaries.mqtt.t, "a hundred songs", func() bool { return b.heard() >= 100 })
	return c.end()
}

// web opens a connection for HTTP, with or without TLS, and no more.
func (s *site) web(scheme string) (net.Conn, error) {
	if scheme == "https" || scheme == "wss" {
		return s.open("tls")
	}
	return s.open("tcp")
}

// upgrade opens a WebSocket by hand, so that frames that no library writes can be
// sent. It returns the answer's header.
func (s *site) upgrade(t testing.TB, scheme, path string, header ...string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := s.web(scheme)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(3 * atMost))
	request := "GET " + path + " HTTP/1.1\r\nHost: " + s.MQTT + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if path == "/mqtt" {
		request += "Sec-WebSocket-Protocol: mqtt\r\n"
	}
	for _, h := range header {
		request += h + "\r\n"
	}
	_, _ = io.WriteString(conn, request+"\r\n")
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%s by %s: %v, %v", path, scheme, answer, err)
	}
	return conn, in, answer
}

// mqttDoor is the door of an MQTT connection.
func mqttDoor(scheme string, version byte) threat.Doors {
	return map[string]threat.Doors{
		"tcp4": threat.TCP3, "tcp5": threat.TCP5, "tls4": threat.TLS3, "tls5": threat.TLS5,
		"ws4": threat.WS3, "ws5": threat.WS5, "wss4": threat.WS3, "wss5": threat.WS5,
	}[fmt.Sprint(scheme, version)]
}

// Nothing listens but what was declared, and no path tells of the inside.
func TestThreatOnlyDeclaredPortsAnswerAndNoPathShowsTheInside(t *testing.T) {
	threat.Row(t, 31, threat.HTTP)
	before := listening(t)
	s := startSite(t, "--listen=127.0.0.1:0", "--listen=127.0.0.1:0")
	var declared []int
	for _, a := range s.Addrs {
		_, port, _ := net.SplitHostPort(a)
		n, _ := strconv.Atoi(port)
		declared = append(declared, n)
	}
	var opened []int
	for _, port := range listening(t) {
		if !slices.Contains(before, port) {
			opened = append(opened, port)
		}
	}
	slices.Sort(declared)
	slices.Sort(opened)
	if !slices.Equal(declared, opened) {
		t.Errorf("ports %v listen, declared are %v", opened, declared)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/debug", "/debug/requests", "/status", "/server-status", "/.env", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"} {
		for url, config := range map[string]*tls.Config{s.URL: nil, "https://" + s.MQTT: s.trust} {
			answer, body := get(t, "GET", url+path, config)
			if answer.StatusCode < 400 || strings.Contains(body, "go_goroutines") || strings.Contains(body, "root:") {
				t.Errorf("%s%s: %d %.100q", url, path, answer.StatusCode, body)
			}
		}
	}
}

// listening is the TCP ports on which this process listens.
func listening(t *testing.T) (ports []int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("it takes /proc to know")
	}
	mine := make(map[string]bool)
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				mine[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		table, _ := os.ReadFile(file)
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !mine[f[9]] {
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(n))
		}
	}
	return ports
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// cpuTime is what this process, server and clients, has used of the processors.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
