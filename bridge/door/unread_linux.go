package door

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unread reports whether a part of what was written to a socket has not arrived at
// its client, or does not fit there since the client does not read.
func unread(socket net.Conn) bool {
	s, ok := socket.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) // 0: it has ended
	return n > 0
}
