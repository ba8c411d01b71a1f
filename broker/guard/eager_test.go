package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// grudging is a connection that takes so many bytes at once, and more only from who
// waits.
type grudging struct {
	net.Conn
	atOnce int
	taken  []byte // at once
}

func (g *grudging) Eager() func([]byte) int {
	return func(p []byte) int {
		n := min(len(p), g.atOnce)
		g.atOnce -= n
		g.taken = append(g.taken, p[:n]...)
		return n
	}
}

// grudged is a peer over one, whose turns come with the returned func.
func grudged(t *testing.T, atOnce int, l Limits) (p *peer, g *grudging, turn func()) {
	server, client := net.Pipe()
	g = &grudging{Conn: server, atOnce: atOnce}
	var due []func()
	l.Soon = func(turn func()) { due = append(due, turn) }
	return guarded(t, g, client, l), g, func() {
		t.Helper()
		if len(due) != 1 {
			t.Fatalf("%d turns are due", len(due))
		}
		next := due[0]
		due = nil
		next()
	}
}

func TestWhatTheSocketTakesAtOnceNeedsOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g, turn := grudged(t, 1000, Limits{})
		for range 2 {
			p.Write([]byte("one "))
			p.Send([]byte("t"), []byte("wo "))
			turn()
		}
		if string(g.taken) != "one two one two " || p.Written() != 16 || p.out.writing {
			t.Errorf("%q was taken, %d bytes written", g.taken, p.Written())
		}
		p.Close()
		turn()
		<-p.Done()
	})
}

func TestWhatTheSocketDoesNotTakeAtOnceFollowsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g, turn := grudged(t, 3, Limits{})
		p.Write([]byte("012345"))
		turn()
		p.Write([]byte("6789")) // no turn: it has a writer that waits
		got := make([]byte, 7)
		if _, err := io.ReadFull(p.client, got); err != nil || string(g.taken)+string(got) != "0123456789" {
			t.Errorf("%q at once, then %q, %v", g.taken, got, err)
		}
		synctest.Wait()
		if p.Written() != 10 {
			t.Errorf("%d bytes were written", p.Written())
		}
		g.atOnce = 1
		p.Write([]byte("x"))
		turn()
		if !bytes.HasSuffix(g.taken, []byte("x")) {
			t.Error("after a writer has gone there are no turns")
		}
		p.Close()
		turn()
		<-p.Done()
	})
}

func TestReceiverThatStallsAfterATurnIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p, _, turn := grudged(t, 10, Limits{})
		p.Write(make([]byte, 2048))
		turn()
		took(t, start, 0)
		<-p.Done()
		took(t, start, 5*time.Second)
		if err := p.Err(); !errors.Is(err, ErrSlowReceiver) || p.Written() != 10 {
			t.Errorf("%v, after %d bytes", err, p.Written())
		}
	})
}

func TestATurnTellsThatThereIsRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g, turn := grudged(t, 1000, Limits{Queue: 100})
		told := 0
		p.OnRoom(func() { told++; p.Write([]byte("more")) })
		p.Write(make([]byte, 60))
		if _, err := p.Write(make([]byte, 41)); err != ErrQueueFull {
			t.Fatal(err)
		}
		turn()
		turn()
		if told != 1 || len(g.taken) != 64 {
			t.Errorf("told %d times, %d bytes were taken", told, len(g.taken))
		}
		p.Close()
		turn()
		<-p.Done()
	})
}

func TestLastWordsLeaveInATurnToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g, turn := grudged(t, 1000, Limits{})
		p.Write([]byte("hello "))
		p.Conn.end(nil, []byte("bye"))
		turn()
		turn()
		<-p.Done()
		if string(g.taken) != "hello bye" {
			t.Errorf("%q was taken", g.taken)
		}
	})
}
