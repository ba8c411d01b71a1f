package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// flood is one address that connects over and over.
type flood struct {
	in, told, cut atomic.Int64 // of its connections; the last without a word
	stop          func()
}

// startFlood begins one with so many connections at a time.
func (s *site) startFlood(client string, atATime int) *flood {
	var all sync.WaitGroup
	ended := make(chan struct{})
	f := &flood{stop: func() {
		close(ended)
		all.Wait()
	}}
	for n := range atATime {
		hello := fmt.Sprintf("PROXY TCP4 %s 127.0.0.1 40000 1883\r\n%s", client, connectAs(5, fmt.Sprintf("flood%d", n), "", "", ""))
		all.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					f.once(s.MQTT, hello)
				}
			}
		})
	}
	return f
}

func (f *flood) once(addr, hello string) {
	c, err := net.DialTimeout("tcp", addr, atMost)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(atMost))
	io.WriteString(c, hello)
	answer := make([]byte, 4)
	switch _, err := io.ReadFull(c, answer); {
	case err != nil:
		f.cut.Add(1)
	case answer[3] == 0:
		f.in.Add(1)
	case answer[3] == 0x9f:
		f.told.Add(1)
	}
}

func TestFloodOfConnectionsFromOneAddressKeepsNobodyElseOut(t *testing.T) {
	threat.Row(t, 18, threat.MQTT|threat.JSON|threat.HTTP)
	const perSecond = 20
	s := startSite(t, "--trusted-proxy=127.0.0.1", fmt.Sprint("--limit-connects-per-address=", perSecond), "--log-level=info")
	begin := time.Now()
	f := s.startFlood("203.0.113.1", 20)
	stop := sync.OnceFunc(f.stop)
	defer stop()
	eventually(t, "the flood to be told, and banned", func() bool { return f.told.Load() > 0 && f.cut.Load() > 100 })
	for i, door := range []string{"tcp", "tls", "ws", "wss", "json"} {
		tried := time.Now()
		if code := s.tries(t, door, fmt.Sprintf("198.51.100.%d", i+1), "good", "x"); code != 0 {
			t.Errorf("%s: refused with %d", door, code)
		}
		if took := time.Since(tried); took > time.Second {
			t.Errorf("%s: let in after %v", door, took)
		}
	}
	stop()
	took := time.Since(begin)
	t.Logf("in %v: %d of the flood were let in, %d told, %d cut", took.Round(time.Millisecond), f.in.Load(), f.told.Load(), f.cut.Load())
	if budget := int64(perSecond * (10 + took/time.Second + 1)); f.in.Load() > budget {
		t.Errorf("%d of the flood were let in, the budget is %d", f.in.Load(), budget)
	}
}

func TestIdentityThatFlapsIsBannedAtEveryDoorAndStaysConnected(t *testing.T) {
	threat.Row(t, 18, threat.MQTT|threat.JSON)
	s := startSite(t, "--limit-connects-per-identity=1", "--trusted-proxy=127.0.0.1")
	cam := s.caller(t, mqtt5TCP, "cam1", "garage")
	for range 9 {
		c := s.through(t, "tcp", "198.51.100.1")
		io.WriteString(c, connectAs(4, "cam1", "", "", ""))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for _, door := range []string{"tcp", "tls", "ws", "wss"} {
		c := s.through(t, door, "198.51.100.2")
		io.WriteString(c, connectAs(5, "cam1", "", "", ""))
		answer := make([]byte, 200)
		if _, err := c.Read(answer); err != nil || answer[3] != 0x9f {
			t.Errorf("%s: % x, %v", door, answer[:8], err)
		}
	}
	again := s.connect(t, jsonWS, "cam1")
	if err := again.line.join("garage"); err == nil {
		t.Error("it may join by JSON")
	}
	again.isEnded("", "4029")
	other := s.caller(t, jsonWS, "alice", "garage")
	cam.sees("alice")
	other.send("cam1", `{"type":"msg","data":1}`)
	cam.hears("alice", `{"type":"msg","data":1}`)
}
