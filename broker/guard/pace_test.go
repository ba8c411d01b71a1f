package guard

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/pace"
)

// swamp writes so many packets of a kind, in pieces, and counts what Read hands on
// of them until the guard ends the connection; took is how long that was.
func swamp(t *testing.T, l Limits, hello, packet string, n int) (p *peer, passed int, took time.Duration, err error) {
	p = piped(t, l).join(hello)
	begin := time.Now()
	go func() {
		for range n / 100 {
			if _, err := io.WriteString(p.client, strings.Repeat(packet, 100)); err != nil {
				return
			}
		}
		p.client.Close()
	}()
	buf := make([]byte, 4096)
	for err == nil {
		var some int
		some, err = p.Read(buf)
		passed += some
	}
	return p, passed / len(packet), time.Since(begin), err
}

func TestFloodOfPacketsIsSlowedDownAndCutOffWithTheReason(t *testing.T) {
	for name, packet := range map[string]string{
		"PINGREQ": "\xc0\x00", "PUBREL": "\x62\x02\x00\x01", "SUBSCRIBE": "\x82\x07\x00\x01\x00\x00\x01a\x00", "UNSUBSCRIBE": "\xa2\x06\x00\x01\x00\x00\x01a",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, passed, took, err := swamp(t, Limits{}, connect5, packet, 100_000)
				bad, ok := errors.AsType[*Violation](err)
				if !ok || bad.Reason != tooFast {
					t.Fatal(err)
				}
				if passed < 2000 || passed > 6000 || took < pace.Patience || took > pace.Patience+time.Second {
					t.Errorf("cut off after %v and %d packets", took, passed)
				}
			})
		})
	}
}

func TestFloodIsToldByDISCONNECTInMQTT5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{Packets: 10}).join(connect5)
		go io.Copy(io.Discard, p)
		go func() {
			for range 100 {
				if _, err := io.WriteString(p.client, "\xc0\x00"); err != nil {
					return
				}
			}
		}()
		told := make([]byte, 100)
		n, _ := p.client.Read(told)
		if told = told[:n]; !bytes.HasPrefix(told, []byte{0xe0}) || told[2] != tooFast || !bytes.Contains(told, []byte("10 packets a second")) {
			t.Errorf("told %q", told)
		}
		p.client.Close()
		p.Close()
		<-p.Done()
	})
}

func TestAwaitedAcknowledgementsAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, took, err := swamp(t, Limits{}, connect5, "\x40\x02\x00\x01", 20_000) // onAck says that they are
		if !errors.Is(err, io.EOF) || took != 0 {
			t.Errorf("ended after %v with %v", took, err)
		}
	})
}

func TestPeakOfPacketsIsOnlySlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, passed, took, err := swamp(t, Limits{Packets: 100}, connect5, "\xc0\x00", 400) // and the CONNECT
		if !errors.Is(err, io.EOF) || passed != 400 || took != 10*time.Millisecond {
			t.Errorf("of 400 %d passed in %v, then %v", passed, took, err)
		}
		_, passed, took, err = swamp(t, Limits{Packets: -1}, connect5, "\xc0\x00", 100_000)
		if !errors.Is(err, io.EOF) || passed != 100_000 || took != 0 {
			t.Errorf("without a limit %d passed in %v, then %v", passed, took, err)
		}
	})
}

func TestEndDoesNotWaitForAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{Packets: 1}).join(connect5)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for buf := make([]byte, 4096); ; {
				if _, err := p.Read(buf); err != nil {
					return
				}
			}
		}()
		io.WriteString(p.client, strings.Repeat("\xc0\x00", 6))
		synctest.Wait()
		begin := time.Now()
		p.Close()
		<-done
		if took := time.Since(begin); took != 0 {
			t.Errorf("Read ended after %v", took)
		}
		p.client.Close()
		<-p.Done()
	})
}
