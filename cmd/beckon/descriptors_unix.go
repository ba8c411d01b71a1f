//go:build unix

package main

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// descriptors are how many are open, and how many may be; 0: it is not known.
func descriptors() (open, limit int64) {
	var most syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most) != nil || uint64(most.Cur) > 1<<31 {
		return 0, 0
	}
	limit = int64(most.Cur)
	if runtime.GOOS == "linux" { // since 6.2 its size is their number, before it is 0
		if info, err := os.Stat("/proc/self/fd"); err == nil && info.Size() > 0 {
			return info.Size(), limit
		}
	}
	folder, err := os.Open("/dev/fd")
	if errors.Is(err, syscall.EMFILE) {
		return limit, limit
	}
	if err != nil {
		return 0, 0
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return 0, 0
	}
	return int64(len(names)), limit
}
