//go:build !race

package bridge

import (
	"syscall"
	"unsafe"
)

// writeOnce writes to a socket that does not block, once; negative: an error. Go's
// scheduler is not told of it, as it is by [syscall.Write], after which it takes the
// processor away from a goroutine that spends some 20 µs in the kernel, wakes another
// thread for it, and has both look for a processor later. That was a tenth of the CPU
// time of a fan-out.
func writeOnce(fd uintptr, p []byte) int {
	n, _, failed := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if failed != 0 {
		return -1
	}
	return int(n)
}
