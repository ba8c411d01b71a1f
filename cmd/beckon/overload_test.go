package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"

	"github.com/gorilla/websocket"
)

// startChild runs the program itself, through a shell that sets its limits first,
// with --dev and further args.
func startChild(t *testing.T, limits string, args ...string) *site {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("limits of a shell are for Linux here")
	}
	all := append([]string{"-c", limits + `; exec "$0" "$@"`, os.Args[0], "serve", "--dev", "--listen=127.0.0.1:0", "--limit-rate=0", "--limit-connects-per-identity=0"}, args...)
	program := exec.Command("sh", all...)
	program.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	s := &site{testServer: &testServer{Log: new(logs)}}
	ready, lines := make(chan string, 1), bufio.NewScanner(stderr)
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines.Scan() {
			fmt.Fprintln(s.Log, lines.Text())
			if found := regexp.MustCompile(`^ready .* on (127\.0\.0\.1:\d+);`).FindStringSubmatch(lines.Text()); found != nil {
				ready <- found[1]
			}
		}
		close(ready)
	})
	t.Cleanup(func() {
		program.Process.Signal(os.Interrupt)
		reading.Wait()
		if err := program.Wait(); err != nil {
			t.Errorf("the program ended with %v", err)
		}
		if t.Failed() {
			t.Logf("its log:\n%s", s.Log)
		}
	})
	addr, ok := <-ready
	if !ok {
		t.Fatal("the program did not start")
	}
	s.MQTT, s.URL, s.WS, s.Over = addr, "http://"+addr, "ws://"+addr+"/ws", "ws://"+addr+"/mqtt"
	return s
}

// fill connects until one is refused as it has to be, and returns those that came
// in.
func (s *site) fill(t *testing.T, most int) (in []net.Conn) {
	t.Helper()
	for n := range most {
		c, err := net.DialTimeout("tcp", s.MQTT, atMost)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(atMost))
		io.WriteString(c, connectAs(5, fmt.Sprintf("crowd%d", n), "", "", ""))
		answer := make([]byte, 4)
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatalf("connection %d was not answered: %v", n+1, err)
		}
		switch answer[3] {
		case 0:
			in = append(in, c)
		case 0x88: // server unavailable
			return in
		default:
			t.Fatalf("connection %d was answered % x", n+1, answer)
		}
	}
	t.Fatalf("%d connections, and none was refused", most)
	return nil
}

// refuses demands that nobody new gets in, by any door, and that everybody is told,
// but not how much is left.
func (s *site) refuses(t *testing.T, why string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.MQTT, atMost)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(atMost))
	io.WriteString(c, connectAs(4, "late", "", "", ""))
	answer := make([]byte, 4)
	if _, err := io.ReadFull(c, answer); err != nil || answer[3] != 3 {
		t.Errorf("MQTT 3.1.1 is told % x, %v", answer, err)
	}
	for _, address := range []string{s.WS, s.Over} {
		ws, refusal, err := websocket.DefaultDialer.Dial(address, nil)
		if err == nil {
			ws.Close()
			t.Errorf("%s: let in", address)
		} else if refusal == nil || refusal.StatusCode != 503 || refusal.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v %v", address, refusal, err)
		} else {
			text, _ := io.ReadAll(refusal.Body) // the dialer has read it
			openAPIDocument(t).answered("GET", address[strings.LastIndexByte(address, '/'):], refusal.StatusCode, refusal.Header, string(text))
		}
	}
	for path, want := range map[string]string{"/readyz": "503 overloaded: ", "/healthz": "200 ok", "/": "503 "} {
		answer, body := get(t, "GET", s.URL+path, nil)
		openAPIDocument(t).answered("GET", path, answer.StatusCode, answer.Header, body)
		if got := fmt.Sprint(answer.StatusCode, " ", body); !strings.HasPrefix(got, want) ||
			path == "/readyz" && (!strings.Contains(got, why) || strings.ContainsAny(body, "0123456789")) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

var overloadedLine = regexp.MustCompile(`overloaded: new connections are refused" why="\d+ .* \d+ `)

// recovers waits until everybody gets in again, without being told to.
func (s *site) recovers(t *testing.T) {
	t.Helper()
	eventually(t, "the server to be ready again", func() bool {
		answer, _ := get(t, "GET", s.URL+"/readyz", nil)
		return answer.StatusCode == 200
	})
	for _, at := range mainEntrances {
		s.connect(t, at, "late"+strings.NewReplacer(" ", "", ".", "").Replace(at.String()))
	}
	if begin, end := len(overloadedLine.FindAllString(s.Log.String(), -1)), strings.Count(s.Log.String(), "no longer overloaded"); begin == 0 || begin > end+1 {
		t.Errorf("the log says %d times that the server is overloaded, and %d times that it is not", begin, end)
	}
}

func TestServerThatRunsOutOfDescriptorsRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	threat.Row(t, 32, threat.TCP|threat.JSON|threat.HTTP)
	s := startChild(t, "ulimit -n 160")
	pair := startCanaries(t, s)
	in := s.fill(t, 160)
	s.refuses(t, "descriptors")
	pair.sing()
	for _, c := range in {
		c.Close()
	}
	s.recovers(t)
	pair.sing()
	t.Logf("%d connections came in", len(in))
}

func TestThoseThatAreThereGoOnOverHTTPWhenLittleIsLeft(t *testing.T) {
	s := startChild(t, "ulimit -n 160")
	alice, cam := s.caller(t, sseHTTP, "alice", "garage"), s.caller(t, mqtt3TCP, "cam1", "garage")
	cam.sees("alice")
	session, _, _ := s.whep(t, cam)
	s.fill(t, 160)
	say := func(as, text string) (*http.Response, string) {
		http.DefaultClient.CloseIdleConnections() // so it comes by a new one, as it has to
		return request(t, "POST", s.URL+"/api/v1/rooms/garage/peers/"+as+"/messages", text, "Content-Type", "application/json")
	}
	if answer, body := say("alice", `{"type":"msg","to":"cam1","data":1}`); answer.StatusCode != 202 || !answer.Close {
		t.Errorf("a peer that is there: %s %s", answer.Status, body)
	}
	cam.until("what alice says", func(e event) bool { return e.from == "alice" && e.kind == "message" })
	cam.send("alice", `{"type":"msg","data":2}`)
	alice.until("what the camera says", func(e event) bool { return e.from == "cam1" && e.kind == "message" })
	if answer, body := say("bob", `{"type":"msg"}`); answer.StatusCode != 503 || !strings.Contains(body, "overloaded") {
		t.Errorf("a peer that is not: %s %s", answer.Status, body)
	}
	http.DefaultClient.CloseIdleConnections()
	if answer, body := request(t, "DELETE", session, ""); answer.StatusCode != 200 {
		t.Errorf("a session that is there: %s %s", answer.Status, body)
	}
}

func TestServerThatRunsOutOfMemoryRefusesAndRecovers(t *testing.T) {
	threat.Row(t, 32, threat.TCP|threat.JSON|threat.HTTP)
	s := startChild(t, "export GOMEMLIMIT=24MiB")
	pair := startCanaries(t, s)
	in := s.fill(t, 5000)
	s.refuses(t, "memory")
	pair.sing()
	for _, c := range in {
		c.Close()
	}
	s.recovers(t)
	pair.sing()
	t.Logf("%d connections came in", len(in))
}

// stall joins yard and reads nothing from then on.
func (s *site) stall(t *testing.T, at entrance, name string) net.Conn {
	t.Helper()
	switch at {
	case jsonWS:
		ws, _, err := websocket.DefaultDialer.Dial(s.WS, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.Close() })
		_ = ws.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10) // what the system takes is not in the queue
		ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","id":1,"room":"yard","peer":"`+name+`"}`))
		if _, _, err := ws.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		return ws.NetConn()
	case sseHTTP:
		c := dial(t, s.MQTT)
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprintf(c, "GET /api/v1/rooms/yard/peers/%s/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", name)
		if answer, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.Contains(answer, "200") {
			t.Fatalf("the stream is answered %q, %v", answer, err)
		}
		return c
	}
	c := dial(t, s.MQTT)
	io.WriteString(c, connectAs(4, name, "", "", "")+packet(0x82, "\x00\x01", text("rtc/v1/yard/to/"+name+"/+"), "\x00"))
	if _, err := io.ReadFull(c, make([]byte, 4+5)); err != nil { // CONNACK, SUBACK
		t.Fatal(err)
	}
	return c
}

func TestServerWhoseQueuesAreFullRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	threat.Row(t, 32, threat.TCP|threat.JSON|threat.HTTP)
	s := startSite(t, "--limit-queues=128KiB", "--log-level=info")
	pair := startCanaries(t, s)
	talker := s.caller(t, jsonWS, "talker", "yard")
	for name, at := range map[string]entrance{"stalled3": mqtt3TCP, "stalledws": jsonWS, "stalledsse": sseHTTP} {
		stalled := s.stall(t, at, name)
		talker.sees(name)
		payload := `{"type":"msg","data":"` + strings.Repeat("x", 60_000) + `"}`
		eventually(t, "its queue to fill", func() bool {
			talker.line.send("yard", name, payload)
			answer, _ := get(t, "GET", s.URL+"/readyz", nil)
			return answer.StatusCode == 503
		})
		s.refuses(t, "waits for slow connections")
		pair.sing()
		stalled.Close()
		s.recovers(t)
		talker = s.caller(t, jsonWS, "talker"+name, "yard")
	}
}

func TestWhoComesWithLittleMemoryLeftDoesNotWaitForTheCollector(t *testing.T) {
	o := newOverload(slog.New(slog.DiscardHandler), 0)
	o.reason = "too little memory"
	for range 100 { // a collection by itself, in between, is as good
		_, o.cycles = memoryInUse()
		if o.memory(); len(o.dirty) == 1 {
			break
		}
	}
	if len(o.dirty) != 1 {
		t.Fatal("the collector was not asked to run, or had run by then")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		o.run(ctx)
	}()
	eventually(t, "a collection", func() bool {
		_, cycles := memoryInUse()
		return cycles > o.cycles
	})
	cancel()
	<-ran
}
