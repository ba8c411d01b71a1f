package main

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// opening is what a client says that has not authenticated, and never ends.
type opening struct {
	what   string
	scheme string // tcp, tls, or ws for /mqtt
	path   string // of a WebSocket by hand
	says   string
	doors  threat.Doors
}

// openings claim as much as they can, and send half of what may come before
// authentication.
func openings() (all []opening) {
	half := strings.Repeat("x", 4000)
	for kind := byte(1); kind <= 14; kind++ {
		flags := byte(0)
		if kind == 6 || kind == 8 || kind == 10 {
			flags = 2
		}
		head := string([]byte{kind<<4 | flags, 0xff, 0xff, 0xff, 0x7f})
		all = append(all, opening{fmt.Sprintf("packet type %d", kind), "tcp", "", head + half, threat.TCP})
	}
	for _, version := range []byte{4, 5} {
		// A CONNECT of 8,000 bytes, half of which come.
		connect := mqttPacket(0x10, mqttText("MQTT"), string([]byte{version, 2, 0, 60}), strings.Repeat("\x00", 7900))[:4000]
		all = append(all,
			opening{fmt.Sprint("half a CONNECT ", version), "tcp", "", connect, mqttDoor("tcp", version)},
			opening{fmt.Sprint("half a CONNECT by TLS ", version), "tls", "", connect, mqttDoor("tls", version)},
			opening{fmt.Sprint("half a CONNECT by WebSocket ", version), "tcp", "/mqtt", "\x82\xfe\x1f\x40\x00\x00\x00\x00" + connect, mqttDoor("ws", version)},
			opening{fmt.Sprint("a claim by WebSocket ", version), "tcp", "/mqtt", "\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00" + connect, mqttDoor("ws", version)})
	}
	return append(all,
		opening{"half a join", "tcp", "/ws", "\x81\xfe\x1f\x40\x00\x00\x00\x00" + half, threat.JSON},
		opening{"a join that claims to be long", "tcp", "/ws", "\x81\xff\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00" + half, threat.JSON},
		opening{"a header", "tcp", "", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + half, threat.HTTP},
		opening{"half a ClientHello", "tcp", "", "\x16\x03\x01\x3f\x00\x01\x00\x3e\xfc" + half, threat.TLS},
	)
}

func TestThreatConnectionsThatAreNotAuthenticatedTakeLittleMemory(t *testing.T) {
	threat.Row(t, 14, threat.MQTT|threat.JSON|threat.HTTP)
	b := besiege(t)
	n := times(70, 1000)
	var most, total float64
	worst := ""
	for _, o := range openings() {
		before := inUse()
		var allocated, after runtime.MemStats
		runtime.ReadMemStats(&allocated)
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = b.begin(t, o)
		}
		b.sing() // by then the server has read what there is, as far as it wants
		b.sing()
		runtime.ReadMemStats(&after)
		each := (float64(inUse()) - float64(before)) / float64(n) / 1024
		churn := float64(after.TotalAlloc-allocated.TotalAlloc) / float64(n) / 1024
		t.Logf("%-30s %5.1f KiB each of server and client together, %6.1f KiB allocated", o.what, each, churn)
		if total += each; each > most {
			most, worst = each, o.what
		}
		limit := 22.0 // 1,000 of them in 20 MB, and what the client here takes
		if o.scheme == "tls" {
			limit = 25 // what crypto/tls holds, here and at the client
		}
		if each > 1.5*limit || churn > 20*limit {
			t.Errorf("%s: %.1f KiB each in use, %.1f KiB allocated", o.what, each, churn)
		}
		for _, c := range conns {
			if c != nil {
				_ = socket(c).(*net.TCPConn).SetLinger(0)
				_ = socket(c).Close()
			}
		}
		eventually(t, "the end of the connections", func() bool { return runtime.NumGoroutine() <= b.goroutines })
	}
	t.Logf("%d kinds of %d connections each; the most took %s: %.1f KiB each, %.1f MiB in all", len(openings()), n, worst, most, most*float64(n)/1024)
	b.unharmed()
}

// begin opens a connection and says o. Nil: it was closed at once.
func (b *besieged) begin(t *testing.T, o opening) net.Conn {
	conn, err := b.open(o.scheme)
	if err != nil {
		t.Fatalf("%s: %v", o.what, err)
	}
	says := o.says
	if o.path != "" {
		says = fmt.Sprintf(slowUpgrade, o.path)
	}
	_, _ = io.WriteString(conn, says)
	if o.path != "" {
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 101" {
			t.Fatalf("%s: %q %v", o.what, answer, err)
		}
		_, _ = io.WriteString(conn, o.says)
	}
	return conn
}
