package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestStalledReceiverNeverBlocksWriteAndIsCut(t *testing.T) {
	threat.Row(t, 19, 0)
	synctest.Test(t, func(t *testing.T) {
		start, p := time.Now(), piped(t, Limits{}).join(connect5)
		packet := make([]byte, 2048)
		for range 512 {
			if n, err := p.Write(packet); n != len(packet) || err != nil {
				t.Fatal(n, err)
			}
		}
		if n, err := p.Write([]byte{0}); n != 0 || err != ErrQueueFull {
			t.Errorf("full queue took %d, %v", n, err)
		}
		took(t, start, 0)
		if _, err := p.Read(packet); !errors.Is(err, ErrSlowReceiver) {
			t.Errorf("Read said %v", err)
		}
		took(t, start, 5*time.Second)
		<-p.Done()
		took(t, start, 5*time.Second)
		if err := p.Err(); !errors.Is(err, ErrSlowReceiver) {
			t.Errorf("Err is %v", err)
		}
		if _, err := p.Write(packet); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write said %v", err)
		}
		if p.Queued() != 1<<20 || p.Written() != 0 {
			t.Errorf("queued %d, written %d", p.Queued(), p.Written())
		}
	})
}

func TestReceiverThatTakesABitAndStallsIsCutAsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{}).join(connect4)
		p.Write(make([]byte, 100<<10))
		io.ReadFull(p.client, make([]byte, 50<<10))
		start := time.Now()
		<-p.Done()
		took(t, start, 5*time.Second)
		if p.Written() != 50<<10 {
			t.Errorf("written %d", p.Written())
		}
	})
}

func TestFullQueueTakesAgainWhenTheReceiverDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{Queue: 100}).join(connect4)
		p.Write(make([]byte, 60))
		if _, err := p.Write(make([]byte, 41)); err != ErrQueueFull {
			t.Fatal(err)
		}
		io.ReadFull(p.client, make([]byte, 60))
		synctest.Wait()
		if _, err := p.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(p.client, make([]byte, 100))
		synctest.Wait()
		if p.Written() != 160 || p.out.writing || p.out.waiting != nil {
			t.Errorf("not idle: written %d, %+v", p.Written(), &p.out)
		}
		p.end()
	})
}

// counting counts the writes to a connection.
type counting struct {
	net.Conn
	writes int
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

func TestWhatWaitsTogetherLeavesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		counter := &counting{Conn: server}
		p := guarded(t, counter, client, Limits{})
		var want []byte
		for i := range 1000 {
			want = append(want, byte(i))
			p.Write(want[i:])
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
			t.Error("bytes changed on the way", err)
		}
		p.end()
		if counter.writes > 2 {
			t.Errorf("%d writes", counter.writes)
		}
	})
}

func TestNextAndSendDoNotAllocateForEachPacket(t *testing.T) {
	packet := assemble(t, `32 .. "a/b" 0001 '0123456789abcdef'`)
	pieces := [][]byte{assemble(t, connect4)}
	for range 2000 {
		pieces = append(pieces, packet)
	}
	c := New(&script{pieces: pieces}, Limits{}, nil)
	c.Next()
	c.Admit()
	n := testing.AllocsPerRun(1000, func() {
		if p, err := c.Next(); len(p) != len(packet) || err != nil {
			t.Fatal(p, err)
		}
		c.Send(packet[:9], packet[9:])
	})
	if n > 1 { // a writer's start, or a pool that was emptied
		t.Errorf("%v allocations", n)
	}
	c.Close()
	<-c.Done()
}

func TestBytesThatWaitAreCountedForAllAndGiveBackAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all atomic.Int64
		stalled, other := piped(t, Limits{Queued: &all}).join(connect5), piped(t, Limits{Queued: &all}).join(connect5)
		stalled.Write(make([]byte, 2048))
		other.Write(make([]byte, 100))
		if n := all.Load(); n != 2148 {
			t.Errorf("%d bytes wait, want 2148", n)
		}
		<-stalled.Done() // cut off
		<-other.Done()
		if n := all.Load(); n != 0 {
			t.Errorf("%d bytes wait when all have gone", n)
		}
	})
}
