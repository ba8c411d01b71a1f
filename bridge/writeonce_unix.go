//go:build unix && (race || !linux)

package bridge

import "syscall"

// writeOnce writes to a socket that does not block, once; negative: an error. It tells
// the race detector, for which what is read comes after what was written.
func writeOnce(fd uintptr, p []byte) int {
	n, _ := syscall.Write(int(fd), p)
	return n
}
