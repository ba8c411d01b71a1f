package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"

	"github.com/gorilla/websocket"
)

// frameOf is a WebSocket frame of a client, masked with zeros (RFC 6455, 5.2).
func frameOf(opcode byte, payload string) string {
	return string([]byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
}

// swamp is a flood of what never becomes a message: what is said first, what over
// and over, and what is heard at the end, among other things.
type swamp struct {
	name, path   string // of the WebSocket, "" for TCP
	first, flood string
	told         string
}

var swamps = []swamp{
	{name: "PINGREQ by MQTT 5", first: connectAs(5, "swamp1", "", "", ""), flood: "\xc0\x00", told: "packets a second"},
	{name: "PINGREQ by MQTT 3.1.1", first: connectAs(4, "swamp2", "", "", ""), flood: "\xc0\x00"},
	{name: "PUBREL by MQTT 5", first: connectAs(5, "swamp3", "", "", ""), flood: "\x62\x02\x00\x01", told: "packets a second"},
	{name: "unasked PUBACK by MQTT 5", first: connectAs(5, "swamp4", "", "", ""), flood: "\x40\x02\x00\x01", told: "packets a second"},
	{name: "WebSocket pings before MQTT", path: "/mqtt", first: frameOf(2, connectAs(4, "swamp5", "", "", "")), flood: frameOf(9, ""), told: "frames a second"},
	{name: "empty frames before MQTT", path: "/mqtt", first: frameOf(2, connectAs(4, "swamp6", "", "", "")), flood: frameOf(2, ""), told: "frames a second"},
	{name: "garbage by JSON", path: "/ws", first: frameOf(1, `{"type":"join","room":"yard","peer":"swamp7"}`), flood: frameOf(1, "{"), told: "frames a second"},
	{name: "pings by JSON", path: "/ws", first: frameOf(1, `{"type":"join","room":"yard","peer":"swamp8"}`), flood: frameOf(1, `{"type":"ping"}`), told: "frames a second"},
	{name: "WebSocket pings by JSON", path: "/ws", first: frameOf(1, `{"type":"join","room":"yard","peer":"swamp9"}`), flood: frameOf(9, "x"), told: "frames a second"},
	{name: "pongs before a join", path: "/ws", first: frameOf(10, ""), flood: frameOf(10, ""), told: "frames a second"},
}

func TestFloodOfFramesThatAreNoMessagesIsSlowedToldAndCutAndFeltByNobody(t *testing.T) {
	threat.Row(t, 16, threat.TCP|threat.WS|threat.JSON)
	s := startSite(t, "--limit-rate=50", "--log-level=info")
	quick := s.caller(t, mqtt5TCP, "quick", "calm")
	slow := s.caller(t, mqtt3TCP, "slow", "calm")
	quick.sees("slow")
	slow.sees("quick")
	exchange := func(n int) (p99 time.Duration) {
		var took []time.Duration
		for range n {
			begin := time.Now()
			quick.send("slow", `{"type":"msg"}`)
			slow.hears("quick", `{"type":"msg"}`)
			took = append(took, time.Since(begin))
			time.Sleep(max(0, 25*time.Millisecond-time.Since(begin))) // within its budget
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	quiet := exchange(50)
	var turn sync.Mutex      // the next floods while the one before comes to its end
	var going sync.WaitGroup // which takes seconds, and nobody does anything
	for _, w := range swamps {
		going.Go(func() {
			t.Run(w.name, func(t *testing.T) {
				var noisy time.Duration
				begin, sent, ended := time.Now(), new(atomic.Int64), make(<-chan string)
				inTurn(&turn, func() {
					begin = time.Now()
					ended = s.flooded(t, w, sent)
					noisy = exchange(50)
				})
				select {
				case heard := <-ended:
					if !strings.Contains(heard, w.told) {
						t.Errorf("it was told %d bytes that end in %q", len(heard), heard[max(0, len(heard)-200):])
					}
				case <-time.After(atMost):
					t.Error("it was not cut off")
				}
				t.Logf("%d sent, gone within %v; p99 of the others %v, when it is quiet %v", sent.Load(), time.Since(begin).Round(time.Millisecond), noisy, quiet)
				if noisy > 2*quiet+100*time.Millisecond {
					t.Errorf("the others' p99 is %v, when it is quiet %v", noisy, quiet)
				}
			})
		})
	}
	going.Wait()
	if n := strings.Count(s.Log.String(), "panic"); n > 0 {
		t.Error(fmt.Sprint(n, " panics"))
	}
}

// inTurn does what only one may do at a time, which may end the test.
func inTurn(turn *sync.Mutex, do func()) {
	turn.Lock()
	defer turn.Unlock()
	do()
}

// flooded floods the server from now on, until it ends the connection. What it said
// until then is sent to the channel.
func (s *site) flooded(t *testing.T, w swamp, sent *atomic.Int64) <-chan string {
	t.Helper()
	conn := dial(t, s.MQTT)
	if w.path != "" {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+s.MQTT+w.path, http.Header{"Sec-Websocket-Protocol": {"mqtt"}})
		if err != nil {
			t.Fatal(err)
		}
		conn = ws.NetConn()
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(atMost))
	}
	io.WriteString(conn, w.first)
	if !strings.Contains(w.first, "\x8a") { // it is answered
		conn.Read(make([]byte, 1))
	}
	go func() {
		const together = 1000
		packets := strings.Repeat(w.flood, together)
		for {
			if _, err := io.WriteString(conn, packets); err != nil {
				return
			}
			sent.Add(together)
		}
	}()
	ended := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(conn)
		ended <- string(all)
	}()
	return ended
}
