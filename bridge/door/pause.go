package door

import (
	"context"
	"os"
	"time"
)

// atOnce is how many seconds of its budget of bytes a connection may send at once.
const atOnce = 4

// Read reads as fast as the budget of bytes allows.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.pause(); err != nil {
		return 0, err
	}
	n, err := c.peeker.Read(b)
	if c.bytes != nil {
		now := time.Now()
		for left, most := n, c.bytes.Burst(); left > 0; left -= most { // so many at once is what a limiter takes
			c.resume = now.Add(c.bytes.ReserveN(now, min(left, most)).DelayFrom(now))
		}
	}
	return n, err
}

// pause waits until c may be read from. It ends early with c and with the door,
// and at a deadline, which it says.
func (c *conn) pause() error {
	for time.Now().Before(c.resume) {
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
