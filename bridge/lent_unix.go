//go:build unix

package bridge

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// Lent reads a socket into buffers that it takes from a pool when there is something
// to read, not before: so a connection that waits holds none, and one read(2) takes
// all that has come. With a buffer of 512 bytes for each connection a message cost
// five reads, which were a quarter of the CPU time of the door for JSON. It is for
// one goroutine.
type Lent struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // of raw; made once, or each read would leave garbage
	pool *sync.Pool            // of *[]byte, all longer than 0
	buf  *[]byte
	n    int
	err  error
}

// NewLent returns nil where conn is not a socket of this system, and must be read
// into a buffer of one's own.
func NewLent(conn net.Conn) *Lent {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	l := &Lent{raw: raw}
	l.try = l.read
	return l
}

// Read waits until there is something to read, and returns a buffer of the pool,
// which the caller puts back, with n bytes of it. There is none with an error.
func (l *Lent) Read(pool *sync.Pool) (buf *[]byte, n int, err error) {
	l.pool = pool
	pool.Put(pool.Get()) // make one here, not in the try, where it would cost 1.6 KiB of stack
	err = l.raw.Read(l.try)
	buf, n = l.buf, l.n
	switch {
	case err != nil:
	case l.err != nil:
		err = &net.OpError{Op: "read", Net: "tcp", Err: l.err}
	case n == 0:
		err = io.EOF
	}
	if err != nil && buf != nil {
		pool.Put(buf)
		buf = nil
	}
	l.buf, l.n, l.err = nil, 0, nil
	return buf, n, err
}

// read is one try. False: there is nothing yet.
func (l *Lent) read(fd uintptr) bool {
	l.buf = l.pool.Get().(*[]byte)
	for {
		l.n, l.err = syscall.Read(int(fd), *l.buf)
		switch {
		case errors.Is(l.err, syscall.EINTR):
			continue
		case l.err == syscall.EAGAIN:
			l.pool.Put(l.buf)
			l.buf, l.err = nil, nil
			return false
		}
		return true
	}
}
