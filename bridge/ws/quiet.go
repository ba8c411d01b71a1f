package ws

import (
	"bufio"
	"errors"
	"os"
	"time"
)

// quietAfter is how long nothing must come, and up to twice as long, until a
// connection is quiet.
//
// Most are, and the stack on which a frame was read and answered, 8 KiB by then,
// would be theirs for good. So the reader of one goes, and a new one waits in its
// place, outside of gorilla's reader: 2 KiB are enough for that. It goes for sockets;
// over TLS there is nothing to be waited for but at the bottom of a read.
//
// To change readers costs as much as a message or two: with a second, clients that
// said something every three were the worse for it by half.
const quietAfter = 5 * time.Second

// wait waits until there is something to read, or an error that Read will return, or
// it is quiet. It returns at once where a frame was begun.
func (w *wire) wait() (quiet bool) {
	if w.in != nil || w.lender == nil || w.err != nil || w.frames.Buffered() > 0 {
		return false
	}
	if w.woken {
		w.expectQuiet()
	}
	w.err = w.fill()
	if w.early(w.err) {
		w.err, w.woken = nil, false
		*w.frames = bufio.Reader{}
		return true
	}
	w.woken = true
	return false
}

// expectQuiet sets the deadline. That costs, so one is good for several waits.
func (w *wire) expectQuiet() {
	if now := time.Now(); w.quiet.Sub(now) < quietAfter {
		w.quiet = now.Add(2 * quietAfter)
		w.readUntil(w.quiet)
	}
}

// early reports whether err only says that it is quiet, and takes that deadline away.
func (w *wire) early(err error) bool {
	if w.quiet.IsZero() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	w.quiet = time.Time{}
	w.readUntil(w.quiet)
	return true
}
