package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// What a message costs is told as a ratio to what it costs at the least that could
// be called a signaling server in this language: a relay of WebSocket frames that
// checks nothing. Both run beside the same load, so the machine falls out of it.

// asReference makes the test binary the relay.
const asReference = "BECKON_TEST_AS_REFERENCE"

// reference is the relay: it hands a frame, as it is, to the peer of the room that
// "to" names.
type reference struct {
	mu    sync.RWMutex // guards peers
	peers map[string]*referencePeer
}

type referencePeer struct {
	mu sync.Mutex // guards writing
	ws *websocket.Conn
}

func (p *referencePeer) write(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.ws.WriteMessage(websocket.TextMessage, frame)
}

// runReference runs the relay until standard input ends.
func runReference() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	relay := &reference{peers: make(map[string]*referencePeer)}
	go func() { _ = http.Serve(l, relay) }()
	fmt.Fprintf(os.Stderr, "ready on %s\n", l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(exitOK)
}

func (r *reference) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	upgrader := websocket.Upgrader{ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10, WriteBufferPool: &referenceBuffers}
	ws, err := upgrader.Upgrade(w, request, nil)
	if err != nil {
		return
	}
	go r.serve(&referencePeer{ws: ws})
}

var referenceBuffers sync.Pool

func (r *reference) serve(p *referencePeer) {
	defer p.ws.Close()
	var room string
	for {
		_, frame, err := p.ws.ReadMessage()
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(frame, []byte(`{"type":"join"`)):
			var join struct{ Room, Peer string }
			if json.Unmarshal(frame, &join) != nil {
				return
			}
			room = join.Room
			r.mu.Lock()
			r.peers[room+"/"+join.Peer] = p
			r.mu.Unlock()
			p.write([]byte(`{"type":"joined"}`))
		case bytes.Equal(frame, []byte(`{"type":"ping"}`)):
			p.write([]byte(`{"type":"pong"}`))
		default:
			if to := r.find(room, frame); to != nil {
				to.write(frame)
			}
		}
	}
}

// find returns whom a frame is for.
func (r *reference) find(room string, frame []byte) *referencePeer {
	_, rest, _ := bytes.Cut(frame, []byte(`"to":"`))
	to, _, _ := bytes.Cut(rest, []byte(`"`))
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.peers[room+"/"+string(to)]
}

// startProgram runs this test binary as another program until the test ends, and
// returns where it listens.
func startProgram(t *testing.T, as string, args ...string) (addr string, pid int) {
	t.Helper()
	program := exec.Command(os.Args[0], args...)
	program.Env = append(os.Environ(), as+"=1")
	stdin, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	var rest sync.WaitGroup
	t.Cleanup(func() {
		stdin.Close()
		program.Process.Signal(os.Interrupt)
		rest.Wait()
		program.Wait()
	})
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%s did not get ready: %v", as, err)
		}
		if found := regexp.MustCompile(`^ready .*on (127\.0\.0\.1:\d+)`).FindStringSubmatch(line); found != nil {
			rest.Go(func() { _, _ = io.Copy(io.Discard, lines) })
			return found[1], program.Process.Pid
		}
	}
}

// TestMessageCostsLittleMoreThanAtARelayWithoutChecks bounds the CPU time of a
// message from JSON WebSocket to JSON WebSocket. The bound is far above what is
// measured on a machine that does nothing else, since here others do.
func TestMessageCostsLittleMoreThanAtARelayWithoutChecks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("CPU time of a process is read from /proc")
	}
	const rounds = 3
	most := 3.0
	if underRace() { // which costs most where most is ours, and not the system's
		most = 9
	}
	relayAddr, relayPID := startProgram(t, asReference)
	addr, pid := startProgram(t, asProgram, "serve", "--dev", "--listen=127.0.0.1:0", "--limit-rate=0", "--limit-joins=0", "--log-level=warn")
	cost := func(addr string, pid int) (seconds, messages float64) {
		r := benched(t, exitOK, "calls", "--server", addr, "--pid", strconv.Itoa(pid), "--door=ws", "--pairs=10", "--duration=700ms", "--warmup=200ms", "--timeout=30s", "--quiet")
		return r.CPUSeconds, r.DeliveredPerSecond * r.Seconds
	}
	var took, messages [2]float64
	for range rounds { // in turn, so that both have the same neighbours
		for i, server := range []struct {
			addr string
			pid  int
		}{{relayAddr, relayPID}, {addr, pid}} {
			s, n := cost(server.addr, server.pid)
			took[i] += s
			messages[i] += n
		}
	}
	relay, beckon := took[0]*1e6/messages[0], took[1]*1e6/messages[1]
	t.Logf("CPU per message: %.2f us, of a relay without checks %.2f us, ratio %.2f, at most %v", beckon, relay, beckon/relay, most)
	if beckon > most*relay {
		t.Errorf("a message costs %.2f times what it does at a relay without checks, it may %v times", beckon/relay, most)
	}
}

// underRace reports whether this is a build with the race detector.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
