//go:build unix

package bridge_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
)

func TestAnEagerWriteGivesWhatTheSocketTakesAndDoesNotWait(t *testing.T) {
	here, there := socketPair(t)
	write := bridge.Eager(here)
	here.SetWriteDeadline(time.Unix(1, 0)) // it knows none
	said := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	n := write(said)
	for n < len(said) {
		more := write(said[n:])
		if more == 0 {
			break
		}
		n += more
	}
	if n == 0 || n == len(said) {
		t.Fatalf("a socket that nobody reads took %d of %d bytes", n, len(said))
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, said[:n]) {
		t.Errorf("not what was written has come, %v", err)
	}
	if write(nil) != 0 {
		t.Error("nothing was written, in bytes")
	}
}

func TestAnEagerWriteToWhatIsClosedTakesNothing(t *testing.T) {
	here, there := socketPair(t)
	write := bridge.Eager(here)
	there.(*net.TCPConn).SetLinger(0)
	there.Close()
	if _, err := here.Read(make([]byte, 1)); err == nil {
		t.Fatal("the other end is open")
	}
	if n := write([]byte("x")); n != 0 {
		t.Errorf("what is reset took %d bytes", n)
	}
	here.Close()
	if n := write([]byte("x")); n != 0 {
		t.Errorf("what is closed took %d bytes", n)
	}
}

func TestWhatIsNoSocketHasNoEagerWrite(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if bridge.Eager(here) != nil {
		t.Error("a pipe has one")
	}
}

func TestAnEagerWriteLeavesNoGarbage(t *testing.T) {
	here, there := socketPair(t)
	write, said := bridge.Eager(here), []byte("x")
	go io.Copy(io.Discard, there)
	if n := testing.AllocsPerRun(1000, func() { write(said) }); n >= 1 { // the pool may be emptied
		t.Errorf("%v allocations", n)
	}
}
