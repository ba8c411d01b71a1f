//go:build unix

package bridge

import (
	"net"
	"sync"
	"syscall"
)

// Eager returns a func that gives conn as much of p as it takes at once, and never
// waits: of n bytes it is known that the socket has them. It says nothing of errors,
// and knows no deadlines: who then writes the rest in the usual way finds out. One
// goroutine at a time may write. There is none (nil) where conn is no socket of this system.
func Eager(conn net.Conn) func(p []byte) (n int) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return func(p []byte) int {
		if len(p) == 0 {
			return 0
		}
		a := attempts.Get().(*attempt)
		defer attempts.Put(a)
		a.p, a.n = p, 0
		_ = raw.Control(a.try) // not Write, which would wait; of what is closed there is no try
		a.p = nil
		return a.n
	}
}

// attempt is a write that is being tried.
type attempt struct {
	p   []byte
	n   int
	try func(fd uintptr) // made once, or each write would leave garbage
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.try = func(fd uintptr) { a.n = max(writeOnce(fd, a.p), 0) }
	return a
}}
