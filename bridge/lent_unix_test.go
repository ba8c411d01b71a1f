//go:build unix

package bridge_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
)

// socketPair is the two ends of a TCP connection.
func socketPair(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if there, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if here, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

func TestABufferIsLentForWhatHasCome(t *testing.T) {
	here, there := socketPair(t)
	buffers := &sync.Pool{New: func() any { b := make([]byte, 16); return &b }}
	lent := bridge.NewLent(here)
	read := func() string {
		t.Helper()
		buf, n, err := lent.Read(buffers)
		if err != nil {
			t.Fatal(err)
		}
		defer buffers.Put(buf)
		return string((*buf)[:n])
	}
	io.WriteString(there, "0123456789abcdef0123")
	for got := ""; got != "0123456789abcdef0123"; got += read() {
	}
	later := time.AfterFunc(10*time.Millisecond, func() { io.WriteString(there, "later") })
	defer later.Stop()
	if got := read(); got != "later" {
		t.Errorf("read %q, not what came later", got)
	}
	there.Close()
	if buf, _, err := lent.Read(buffers); err != io.EOF || buf != nil {
		t.Errorf("at the end of the stream: %v, %v", buf, err)
	}
}

func TestAConnectionThatWaitsHoldsNoBuffer(t *testing.T) {
	here, _ := socketPair(t)
	buffers := &sync.Pool{New: func() any { b := make([]byte, 16); return &b }}
	lent := bridge.NewLent(here)
	here.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if buf, _, err := lent.Read(buffers); !errors.Is(err, os.ErrDeadlineExceeded) || buf != nil {
		t.Errorf("after the deadline: %v, %v", buf, err)
	}
	here.Close()
	if buf, _, err := lent.Read(buffers); !errors.Is(err, net.ErrClosed) || buf != nil {
		t.Errorf("of a closed connection: %v, %v", buf, err)
	}
}
