//go:build unix

package bridge_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
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

// patient is a connection that says when a read of it has found nothing, and waits.
type patient struct {
	net.Conn
	waits chan struct{}
}

func (p patient) SyscallConn() (syscall.RawConn, error) {
	raw, err := p.Conn.(syscall.Conn).SyscallConn()
	return patientSocket{raw, p.waits}, err
}

type patientSocket struct {
	syscall.RawConn
	waits chan struct{}
}

func (p patientSocket) Read(try func(uintptr) bool) error {
	return p.RawConn.Read(func(fd uintptr) bool {
		done := try(fd)
		if !done {
			p.waits <- struct{}{}
		}
		return done
	})
}

func TestAConnectionThatWaitsHoldsNoBuffer(t *testing.T) {
	here, there := socketPair(t)
	var made, gone atomic.Int64
	buffers := &sync.Pool{New: func() any {
		b := make([]byte, 16)
		made.Add(1)
		runtime.AddCleanup(&b, func(int) { gone.Add(1) }, 0)
		return &b
	}}
	conn := patient{here, make(chan struct{}, 1)}
	lent := bridge.NewLent(conn)
	read := make(chan error, 1)
	go func() {
		buf, n, err := lent.Read(buffers)
		if err == nil && string((*buf)[:n]) != "later" {
			err = fmt.Errorf("read %q", (*buf)[:n])
		}
		read <- err
	}()
	<-conn.waits
	for late := time.After(10 * time.Second); gone.Load() < made.Load(); {
		runtime.GC() // a pool keeps what is in it for two of them
		select {
		case <-late:
			t.Fatalf("of %d buffers %d are nobody's while the connection waits", made.Load(), gone.Load())
		default:
		}
	}
	io.WriteString(there, "later")
	if err := <-read; err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(lent)
}

func TestNoBufferComesWithAnError(t *testing.T) {
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
