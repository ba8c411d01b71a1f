package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// slow is a client that says something and then a byte a second.
type slow struct {
	what   string
	scheme string // tcp or tls
	says   string
	drips  string // a byte a second, again from its start; none: silence
	frames bool   // it is over when a close frame comes
	doors  threat.Doors
}

const slowUpgrade = "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"

func slowClients() []slow {
	ws, mqtt := fmt.Sprintf(slowUpgrade, "/ws"), fmt.Sprintf(slowUpgrade, "/mqtt")
	list := []slow{
		{"not a byte", "tcp", "", "", false, threat.TCP},
		{"a header of HTTP", "tcp", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", "X-A: b\r\n", false, threat.HTTP},
		{"a header of HTTPS", "tls", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", "X-A: b\r\n", false, threat.HTTP},
		{"a request line", "tcp", "GET /", "a", false, threat.HTTP},
		{"a body", "tcp", "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n", "a", false, threat.HTTP},
		{"a body in chunks", "tcp", "POST /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", false, threat.HTTP},
		{"nothing after an answer", "tcp", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "", false, threat.HTTP},
		{"nothing after an answer of HTTPS", "tls", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "", false, threat.HTTP},
		{"half a ClientHello", "tcp", "\x16\x03\x01\x02\x00\x01\x00\x01", "\xfc", false, threat.TLS},
		{"nothing inside TLS", "tls", "", "", false, threat.TLS},
		{"an upgrade", "tcp", ws[:len(ws)-2], "X-A: b\r\n", false, threat.JSON | threat.WS},
		{"no join", "tcp", ws, "", true, threat.JSON},
		{"no join, by TLS", "tls", ws, "", true, threat.JSON},
		{"a frame of JSON", "tcp", ws + "\x81\xfe\x10\x00\x00\x00\x00\x00{", " ", true, threat.JSON},
		{"pings, and no join", "tcp", ws, "\x89\x80\x00\x00\x00\x00", true, threat.JSON},
	}
	for _, version := range []byte{4, 5} {
		connect := connectAs(version, "slow", "", "", "")
		list = append(list,
			slow{fmt.Sprint("half a CONNECT ", version), "tcp", connect[:9], "", false, mqttDoor("tcp", version)},
			slow{fmt.Sprint("a CONNECT ", version), "tcp", connect[:2], connect[2:8], false, mqttDoor("tcp", version)},
			slow{fmt.Sprint("a CONNECT in TLS ", version), "tls", connect[:2], connect[2:8], false, mqttDoor("tls", version)},
			slow{fmt.Sprint("a CONNECT by WebSocket ", version), "tcp", mqtt + "\x82\xfe\x10\x00\x00\x00\x00\x00" + connect[:2], connect[2:8], true, mqttDoor("ws", version)},
		)
	}
	return list
}

// drip is such a client, until the server ends it; it returns how long that took.
func (s *site) drip(c slow) (time.Duration, error) {
	conn, err := s.open(c.scheme)
	if err != nil {
		return 0, err
	}
	defer func() { _ = socket(conn).Close() }()
	start := time.Now()
	_ = conn.SetDeadline(start.Add(3 * atMost))
	_, _ = io.WriteString(conn, c.says)
	over := make(chan struct{})
	var dripping sync.WaitGroup
	dripping.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-tick.C:
				if c.drips != "" {
					_, _ = io.WriteString(conn, c.drips[i%len(c.drips):][:1])
				}
			}
		}
	})
	err = untilEnd(conn, c.frames)
	close(over)
	dripping.Wait()
	return time.Since(start), err
}

// untilEnd reads until the server is done with a connection.
func untilEnd(conn net.Conn, frames bool) error {
	in := bufio.NewReader(conn)
	if frames {
		for { // the answer to the upgrade
			line, err := in.ReadString('\n')
			if err != nil || line == "\r\n" {
				break
			}
		}
		for {
			opcode, _, err := readFrame(in)
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				return err
			}
			if err != nil || opcode == 8 {
				return nil
			}
		}
	}
	_, err := io.Copy(io.Discard, in)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return err
	}
	return nil // closed, or reset
}

func TestThreatSlowClientsAreGoneInTenSecondsAndGoodOnesComeIn(t *testing.T) {
	threat.Row(t, 15, threat.MQTT|threat.JSON|threat.HTTP)
	b := besiege(t)
	good := b.goodClients("tcp", "tls", "ws")
	list := slowClients()
	each := times(3, 40)
	took := make([]time.Duration, len(list)*each)
	together(len(took), func(i int) {
		c, err := list[i%len(list)], error(nil)
		if took[i], err = b.drip(c); err != nil {
			t.Errorf("%s is never ended: %v", c.what, err)
		}
	})
	waits := good.end()
	longest := 0
	for i := range took {
		if took[i] > took[longest] {
			longest = i
		}
		if most := 10*time.Second + 5*time.Second; took[i] > most { // 10.5 s on a machine that is not busy
			t.Errorf("%s is ended after %v", list[i%len(list)].what, took[i])
		}
	}
	t.Logf("%d slow clients of %d kinds; the last was ended after %v: %s", len(took), len(list), took[longest].Round(time.Millisecond), list[longest%len(list)].what)
	t.Logf("%d good clients connected meanwhile, in %v; worst %v", len(waits), waits[len(waits)/2], waits[len(waits)-1])
	if waits[len(waits)/2] > time.Second { // 100 ms
		t.Errorf("good clients take %v to connect", waits[len(waits)/2])
	}
	b.unharmed()
}

// comings is clients that come in and go, one after the other.
type comings struct {
	stop, done chan struct{}
	took       []time.Duration
}

// goodClients starts one about every tenth of a second, by each scheme in turn: a
// MQTT client that connects until the answer is there, or with "http" a request.
func (b *besieged) goodClients(schemes ...string) *comings {
	c := &comings{stop: make(chan struct{}), done: make(chan struct{})}
	t := b.canaries.mqtt.t
	go func() {
		defer close(c.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
			start := time.Now()
			scheme, hello, welcome := schemes[n%len(schemes)], connectAs(4, "good", "", "", ""), "\x20\x02\x00\x00"
			if scheme == "http" {
				scheme, hello, welcome = "tcp", "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 200"
			}
			conn, err := b.open(scheme)
			if err != nil {
				t.Errorf("a good client cannot connect: %v", err)
				continue
			}
			_ = conn.SetDeadline(start.Add(atMost))
			_, _ = io.WriteString(conn, hello)
			answer := make([]byte, len(welcome))
			if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != welcome {
				t.Errorf("a good client is not let in by %s: %q %v", schemes[n%len(schemes)], answer, err)
			}
			c.took = append(c.took, time.Since(start))
			_ = conn.Close()
		}
	}()
	return c
}

// end stops them, and returns what each took, the shortest first.
func (c *comings) end() []time.Duration {
	close(c.stop)
	<-c.done
	slices.Sort(c.took)
	return append(c.took, c.took[len(c.took)-1:]...)
}

// A receiver that reads nothing holds up nobody; who sends to it is told, and
// told that it is gone after five seconds.
func TestThreatReceiverThatReadsNothingIsCutAndItsSenderTold(t *testing.T) {
	threat.Row(t, 19, threat.MQTT|threat.JSON)
	b := besiege(t, "--limit-bytes=0") // its pause is another matter
	quiet50, quiet99, _ := b.quietly()
	song := b.startChoir()
	var mu sync.Mutex
	var worstAck, worstCut time.Duration
	var senders []*caller
	for i := range twoWay {
		senders = append(senders, b.caller(t, mqtt5TCP, fmt.Sprint("sender", i), "attic"))
	}
	together(len(twoWay), func(i int) {
		at, deaf, sender := twoWay[i], fmt.Sprint("deaf", i), senders[i]
		conn := b.deaf(t, at, deaf)
		if conn == nil {
			return
		}
		payload := `{"type":"msg","data":"` + strings.Repeat("x", 30_000) + `"}`
		topic := sender.line.(*line5).to("attic", deaf)
		var full, last time.Time
		start := time.Now()
		for {
			last = time.Now()
			fate, err := sender.line.(*line5).publish(topic, payload, false)
			ack := time.Since(last)
			mu.Lock()
			worstAck = max(worstAck, ack)
			mu.Unlock()
			switch {
			case err != nil && fate == 0:
				t.Errorf("%v: %v", at, err)
				return
			case fate == 0x97 && full.IsZero():
				full = time.Now()
			case fate == 0x10:
				mu.Lock()
				worstCut = max(worstCut, time.Since(full))
				mu.Unlock()
				if full.IsZero() {
					t.Errorf("%v: its sender was never told that it is busy", at)
				}
				return
			case time.Since(start) > 3*atMost:
				t.Errorf("%v: it is still there", at)
				return
			}
			for len(sender.events) > 1000 {
				<-sender.events
			}
			if !full.IsZero() {
				<-time.After(20 * time.Millisecond)
			}
		}
	})
	p50, p99, worst := song.end()
	t.Logf("quiet: median %v, p99 %v; with %d receivers that read nothing: median %v, p99 %v, worst %v; their senders' worst acknowledgement %v; the last was cut %v after its queue was full",
		quiet50, quiet99, len(twoWay), p50, p99, worst, worstAck, worstCut.Round(time.Millisecond))
	most := 3 * time.Second // on a busy machine; who waits for a stalled one waits five
	if *long {
		most = 100 * time.Millisecond // on a machine with nothing else to do
	}
	if worst > most || worstAck > most {
		t.Errorf("others waited %v, the senders %v, more than %v", worst, worstAck, most)
	}
	if worstCut > 9*time.Second {
		t.Errorf("a receiver that reads nothing was cut after %v", worstCut)
	}
	for _, s := range senders {
		s.leave()
	}
	b.unharmed(senders...)
}

// deaf joins the attic and reads nothing any more.
func (b *besieged) deaf(t *testing.T, at entrance, name string) net.Conn {
	if at.protocol == "JSON" {
		conn, in, _ := b.upgrade(t, at.scheme, "/ws")
		_, _ = io.WriteString(conn, frame(0x81, fmt.Sprintf(`{"type":"join","room":"attic","peer":%q}`, name)))
		if _, said, err := readFrame(in); err != nil || !strings.Contains(said, `"joined"`) {
			t.Errorf("%v does not join: %q %v", at, said, err)
			return nil
		}
		return conn
	}
	w := b.wire(t, at.scheme, versionOf(at))
	w.connect(name, "", "")
	w.mustSubscribe("attic", "to/"+name+"/+")
	return w.conn
}
