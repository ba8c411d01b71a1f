package auth

import "golang.org/x/sys/unix"

// stepAside has this thread run only when no other wants to: any thread that
// wakes up takes its place at once, which even the lowest nice value does not
// grant (sched(7), SCHED_IDLE). Where that is refused, all goes on as it was.
func stepAside() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}
