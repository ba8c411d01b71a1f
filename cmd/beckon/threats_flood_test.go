package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// budgetArgs are what startServer takes off for other tests: the defaults.
var budgetArgs = []string{"--limit-rate=50", "--limit-burst=200", "--limit-joins=10"}

// writeAgain writes the same again and again until the server ends the connection, or
// it is time; it returns how often. The answers are read.
func writeAgain(conn net.Conn, one string, lasting time.Duration) int {
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	batch := strings.Repeat(one, 20)
	_ = conn.SetWriteDeadline(time.Now().Add(lasting))
	n := 0
	for start := time.Now(); time.Since(start) < lasting; n += 20 {
		if _, err := io.WriteString(conn, batch); err != nil {
			break
		}
		<-time.After(time.Millisecond) // 20,000 a second, if it may
	}
	return n
}

// attacker is a connection at an entrance, in a room, and what it sends there.
func (b *besieged) attacker(t *testing.T, at entrance, name, room, to string) (net.Conn, string) {
	payload := `{"type":"msg","data":"flood"}`
	if at.protocol == "JSON" {
		conn, in, _ := b.upgrade(t, at.scheme, "/ws")
		_, _ = io.WriteString(conn, frame(0x81, fmt.Sprintf(`{"type":"join","room":%q,"peer":%q}`, room, name)))
		if _, said, err := readFrame(in); err != nil || !strings.Contains(said, `"joined"`) {
			t.Errorf("%v does not join: %q %v", at, said, err)
		}
		if to != "" {
			payload = `{"to":"` + to + `",` + payload[1:]
		}
		return conn, frame(0x81, payload)
	}
	w := b.wire(t, at.scheme, versionOf(at))
	w.connect(name, "", "")
	w.mustSubscribe(room, "to/"+name+"/+")
	return w.conn, mqttPacket(0x30, mqttText(mqttTopics{name}.to(room, to)), w.none(), payload)
}

// What one connection floods comes through within its budget, and others do not
// feel it.
func TestThreatFloodIsForwardedWithinItsBudgetOnly(t *testing.T) {
	threat.Row(t, 16, threat.MQTT|threat.JSON)
	b := besiege(t, budgetArgs...)
	var heard [10]atomic.Int64
	var made []*caller
	for i := range twoWay { // a receiver each, which only counts
		c := b.caller(t, jsonWS, "sink", fmt.Sprint("room", i))
		made = append(made, c)
	}
	_, q99, _ := b.quietly()
	song := b.startChoir()
	stop := make(chan struct{})
	counting := make(chan struct{})
	go func() {
		defer close(counting)
		together(len(made), func(i int) {
			for {
				select {
				case e := <-made[i].events:
					if e.kind == "message" && e.from == "flood" {
						heard[i].Add(1)
					}
				case <-stop:
					return
				}
			}
		})
	}()
	lasting := time.Duration(times(2, 30)) * time.Second
	var sent, connections [10]int
	var took [10]time.Duration
	together(len(twoWay), func(i int) {
		start := time.Now()
		for time.Since(start) < lasting { // whoever is cut comes back
			conn, one := b.attacker(t, twoWay[i], "flood", fmt.Sprint("room", i), "sink")
			connections[i]++
			sent[i] += writeAgain(conn, one, lasting-time.Since(start))
		}
		took[i] = time.Since(start)
	})
	p50, p99, worst := song.end()
	for i, at := range twoWay {
		most := int64(float64(200*connections[i]) + 50*took[i].Seconds() + 50)
		if got := heard[i].Load(); got > most || got == 0 {
			t.Errorf("%v: %d messages came through, the budget of %d connections in %v is %d", at, got, connections[i], took[i], most)
		}
		t.Logf("%v: %d written by %d connections in %v, %d came through, the budget is %d", at, sent[i], connections[i], took[i].Round(time.Millisecond), heard[i].Load(), most)
	}
	close(stop)
	<-counting
	t.Logf("others: quiet p99 %v; with %d floods median %v, p99 %v, worst %v", q99, len(made), p50, p99, worst)
	if p99 > 2*q99+time.Second { // twice, on a machine that is not busy
		t.Errorf("others wait %v, when quiet %v", p99, q99)
	}
	for _, c := range made {
		c.leave()
	}
	b.unharmed(made...)
}

// What many receivers get of one sender is its budget times their number, and no
// more, whether it speaks to all or comes and goes.
func TestThreatBroadcastsAndComingsAreAmplifiedWithinTheBudgetOnly(t *testing.T) {
	threat.Row(t, 17, threat.MQTT|threat.JSON)
	b := besiege(t, budgetArgs...)
	const listeners = 20
	for what, one := range map[string]func(at entrance, me string) []string{
		"to all": func(at entrance, me string) []string {
			if at.protocol == "JSON" {
				return []string{frame(0x81, `{"type":"msg"}`)}
			}
			none := (&wire{version: versionOf(at)}).none()
			return []string{mqttPacket(0x30, mqttText("rtc/v1/hall/all/"+me), none, `{"type":"msg"}`)}
		},
		"coming and going": func(at entrance, me string) []string {
			if at.protocol == "JSON" {
				return []string{frame(0x81, `{"type":"leave","room":"hall"}`), frame(0x81, `{"type":"join","room":"hall"}`)}
			}
			none := (&wire{version: versionOf(at)}).none()
			topic := mqttText("rtc/v1/hall/peers/" + me)
			return []string{mqttPacket(0x31, topic, none), mqttPacket(0x31, topic, none, `{"online":true}`)}
		},
		"changes of presence": func(at entrance, me string) []string {
			if at.protocol == "JSON" {
				return []string{frame(0x81, `{"type":"presence","presence":{"name":"a"}}`), frame(0x81, `{"type":"presence","presence":{"name":"b"}}`)}
			}
			none := (&wire{version: versionOf(at)}).none()
			topic := mqttText("rtc/v1/hall/peers/" + me)
			return []string{mqttPacket(0x31, topic, none, `{"online":true,"name":"a"}`), mqttPacket(0x31, topic, none, `{"online":true,"name":"b"}`)}
		},
	} {
		t.Run(what, func(t *testing.T) {
			var got, bytes atomic.Int64
			var hall []*wire
			done := make(chan struct{})
			for i := range listeners {
				w := b.wire(t, "tcp", 4)
				w.connect(fmt.Sprint("listener", i), "", "")
				w.mustSubscribe("hall", "all/+", "peers/+")
				w.take()
				hall = append(hall, w)
			}
			go func() {
				defer close(done)
				together(listeners, func(i int) {
					for {
						if _, body, err := hall[i].read(); err != nil {
							return
						} else if len(hall[i].take()) > 0 {
							got.Add(1)
							bytes.Add(int64(len(body)))
						}
					}
				})
			}()
			start := time.Now()
			var connections atomic.Int64
			together(len(twoWay), func(i int) {
				me := fmt.Sprint("crier", i, "-", strings.ReplaceAll(what, " ", "-")) // those of before may still be going
				conn, _ := b.attacker(t, twoWay[i], me, "hall", "")
				connections.Add(1)
				writeAgain(conn, strings.Join(one(twoWay[i], me), ""), time.Duration(times(1, 20))*time.Second)
			})
			took := time.Since(start)
			b.sing()
			for _, w := range hall {
				_ = w.conn.Close()
			}
			<-done
			budget := float64(connections.Load()) * (200 + 50*took.Seconds() + 50) // a burst, the rate, and its own coming and going
			ratio := float64(got.Load()) / budget
			t.Logf("%d deliveries, %d KiB, to %d listeners of %d connections in %v: %.1f for each message of their budget", got.Load(), bytes.Load()>>10, listeners, connections.Load(), took.Round(time.Millisecond), ratio)
			if got.Load() == 0 {
				t.Error("nobody heard anything, which shows nothing")
			}
			if ratio > listeners {
				t.Errorf("%.1f deliveries for each message of the budget, there are %d listeners", ratio, listeners)
			}
		})
	}
	b.unharmed()
}

// A flood of connections, which come and go as fast as they can, does not keep a
// good client out.
func TestThreatFloodOfConnectionsKeepsNobodyOut(t *testing.T) {
	threat.Row(t, 18, threat.MQTT|threat.JSON|threat.HTTP)
	b := besiege(t, append(budgetArgs, "--limit-connects=0")...) // loopback has no budget of its own, only the node
	good := b.goodClients("tcp", "tls", "ws", "http")
	stop := time.Now().Add(time.Duration(times(3, 30)) * time.Second)
	var made atomic.Int64
	kinds := []func(version byte) (net.Conn, error){
		func(v byte) (net.Conn, error) { return b.say("tcp", connectAs(v, "flap", "", "", "")) },
		func(v byte) (net.Conn, error) { return b.say("tls", connectAs(v, "flap", "", "", "")) },
		func(v byte) (net.Conn, error) { return b.say("ws", connectAs(v, "flap", "", "", "")) },
		func(byte) (net.Conn, error) {
			return b.say("tcp", fmt.Sprintf(slowUpgrade, "/ws")+frame(0x81, `{"type":"join","room":"attic","peer":"flap"}`))
		},
		func(byte) (net.Conn, error) { return b.say("tcp", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") },
		func(byte) (net.Conn, error) { return b.say("tcp", "") },
	}
	together(12, func(i int) {
		for n := i; time.Now().Before(stop); n++ {
			conn, err := kinds[n%len(kinds)](byte(4 + i%2))
			if err != nil {
				continue // the cap
			}
			made.Add(1)
			if n%2 == 0 {
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = conn.Read(make([]byte, 4))
			}
			(&fuzzer{conn: conn}).close()
		}
	})
	waits := good.end()
	t.Logf("%d connections a second; %d good clients connected meanwhile, in %v; worst %v", made.Load()/int64(times(3, 30)), len(waits), waits[len(waits)/2], waits[len(waits)-1])
	if waits[len(waits)/2] > time.Second {
		t.Errorf("good clients take %v to connect", waits[len(waits)/2])
	}
	b.unharmed()
}

// say opens a connection and says something.
func (s *site) say(scheme, says string) (net.Conn, error) {
	conn, err := s.open(scheme)
	if err == nil {
		_, _ = io.WriteString(conn, says)
	}
	return conn, err
}
