package guard

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestSilentConnectionIsCutWhenTheHandshakeTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), piped(t, Limits{})
		p.SetDeadline(start.Add(time.Hour))
		p.refused(timedOut)
		took(t, start, 10*time.Second)
		<-p.Done()
		took(t, start, 10*time.Second)
	})
}

func TestNothingExtendsTheHandshake(t *testing.T) {
	threat.Row(t, 15, 0)
	for _, cut := range []int{1, 2, 8, 15} {
		synctest.Test(t, func(t *testing.T) {
			start, p := time.Now(), piped(t, Limits{})
			b := assemble(t, connect4)[:cut]
			go func() {
				for _, b := range b {
					if _, err := p.client.Write([]byte{b}); err != nil {
						return
					}
					p.SetDeadline(time.Now().Add(time.Minute))
					time.Sleep(900 * time.Millisecond) // of fake time
				}
			}()
			p.refused(timedOut)
			took(t, start, 10*time.Second)
			p.end()
			time.Sleep(time.Minute) // of fake time, for the dripper
		})
	}
}

func TestConnectThatIsNeverAcceptedIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), piped(t, Limits{})
		p.send(connect5)
		p.expect(connect5)
		p.refused(timedOut)
		took(t, start, 10*time.Second)
	})
}

func TestDeadlineSetBeforeAdmitHoldsAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), piped(t, Limits{})
		p.send(connect4)
		p.expect(connect4)
		p.SetDeadline(start.Add(90 * time.Second))
		p.Admit()
		p.refused(timedOut)
		took(t, start, 90*time.Second)
	})
}

func TestDrippedPacketIsCutThoughKeepAliveIsLong(t *testing.T) {
	threat.Row(t, 15, 0)
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{}).join(connect4)
		p.SetDeadline(time.Now().Add(time.Hour))
		time.Sleep(time.Minute)
		start := time.Now()
		go func() {
			for _, b := range append([]byte{0x30, 100, 0, 1, 'a'}, make([]byte, 95)...) {
				if _, err := p.client.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		v := p.refused(timedOut)
		if took(t, start, 10*time.Second); !v.Timeout() {
			t.Error("not a timeout")
		}
		p.end()
		time.Sleep(2 * time.Second) // of fake time, for the dripper
	})
}

func TestPacketsThatFollowEachOtherEachHaveTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{}).join(connect4)
		b := bytes.Repeat(assemble(t, `30 .. "a" 'hello'`), 20)
		go func() {
			for piece := range slices.Chunk(b, 4) { // never on a packet's end but every 20 bytes
				p.client.Write(piece)
				time.Sleep(3 * time.Second)
			}
		}()
		if _, err := io.ReadFull(p, make([]byte, len(b))); err != nil {
			t.Error(err)
		}
		p.end()
		time.Sleep(4 * time.Second)
	})
}

func TestSilenceBeyondKeepAliveIsToldInVersion5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), piped(t, Limits{}).join(connect5)
		p.SetDeadline(time.Now().Add(90 * time.Second))
		told := make(chan []byte)
		go func() { told <- p.told() }()
		p.refused(timedOut)
		if b := <-told; len(b) < 3 || b[0] != 0xE0 || b[2] != timedOut {
			t.Errorf("told % X", b)
		}
		took(t, start, 90*time.Second)
	})
}

func TestAcknowledgementsKeepTheConnectionAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), piped(t, Limits{}).join(connect4)
		p.SetDeadline(time.Now().Add(15 * time.Second))
		go func() {
			for range 6 {
				time.Sleep(10 * time.Second)
				p.client.Write(assemble(t, `40 02 0001`))
			}
		}()
		p.refused(timedOut)
		took(t, start, 75*time.Second)
		if len(p.acks) != 6 {
			t.Errorf("%d acks", len(p.acks))
		}
	})
}
