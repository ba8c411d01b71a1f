//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package auth

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockFolder locks the folder against others that edit files in it. It does not
// wait for ever: whoever may read the folder can lock it.
func lockFolder(folder string) (unlock func(), err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for begin := time.Now(); ; time.Sleep(lockLook) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // which unlocks it
		case errors.Is(err, syscall.EWOULDBLOCK) && time.Since(begin) > lockWait:
			_ = f.Close()
			return nil, fmt.Errorf("%s is locked: another program changes files in it; try again", folder)
		case errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR):
		default: // the file system has no locks, such as NFS for a folder
			return func() { _ = f.Close() }, nil
		}
	}
}
