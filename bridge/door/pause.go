package door

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
)

// atOnce is how many seconds of its budget of bytes a connection may send at once.
const atOnce = 4

// Read reads as fast as the budget of bytes allows.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.pause(); err != nil {
		return 0, err
	}
	n, err := c.peeker.Read(b)
	if err != nil {
		c.late(err, false)
	}
	c.spend(n)
	return n, err
}

// ReadLent is Read into a buffer that is taken from pool (of *[]byte) when there is
// something to read, and is the caller's to put back: n bytes of it were read. There
// is none with an error; [errors.ErrUnsupported] says that c is over TLS, or not a
// socket, and that nothing was read.
func (c *conn) ReadLent(pool *sync.Pool) (buf *[]byte, n int, err error) {
	if c.lent == nil && !c.encrypted() {
		c.lent = bridge.NewLent(c.raw)
	}
	if c.lent == nil {
		return nil, 0, errors.ErrUnsupported
	}
	if err := c.pause(); err != nil {
		return nil, 0, err
	}
	if len(c.ahead) > 0 {
		buf = pool.Get().(*[]byte)
		n, err = c.peeker.Read(*buf)
	} else {
		buf, n, err = c.lent.Read(pool)
	}
	c.spend(n)
	return buf, n, err
}

// spend takes n bytes, which were read, from the budget.
func (c *conn) spend(n int) {
	if c.bytes == nil {
		return
	}
	now := time.Now()
	for left, most := n, c.bytes.Burst(); left > 0; left -= most { // so many at once is what a limiter takes
		c.resume = now.Add(c.bytes.ReserveN(now, min(left, most)).DelayFrom(now))
	}
}

// pause waits until c may be read from. It ends early with c and with the door,
// and at a deadline, which it says.
func (c *conn) pause() error {
	for !c.resume.IsZero() && time.Now().Before(c.resume) {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			break // the read finds out
		}
		end, passed := c.resume, false
		if t := c.deadline(); !t.IsZero() && t.Before(end) {
			end, passed = t, true
		}
		awake, cancel := context.WithDeadline(c.door.closed, end)
		c.wake = cancel
		c.mu.Unlock()
		<-awake.Done()
		cancel()
		c.mu.Lock()
		c.wake = nil
		c.mu.Unlock()
		if passed && !time.Now().Before(end) {
			return os.ErrDeadlineExceeded
		}
		if c.door.closed.Err() != nil {
			break
		}
	}
	return nil
}
