package guard

import (
	"errors"
	"net"
	"time"
)

// SetDeadline sets the read deadline: writes have their own. The deadline of
// the handshake and of a packet that has begun hold besides; the earliest counts.
// What comes puts it off by as much as it was ahead when it was set.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline is explained at [Conn.SetDeadline].
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return net.ErrClosed
	}
	if c.keepAlive = t; !t.IsZero() {
		c.period = time.Until(t)
	}
	return c.setReadDeadline()
}

// SetWriteDeadline does nothing: Write does not wait, and what happens behind
// it has the deadline of [Limits].Write.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// setReadDeadline gives the socket the earliest of the deadlines that hold.
func (c *Conn) setReadDeadline() error {
	if c.ended {
		return net.ErrClosed
	}
	t := c.keepAlive
	if !c.admitted.Load() {
		t = earliest(t, c.handshake)
	}
	return c.conn.SetReadDeadline(earliest(t, c.packet))
}

// earliest is the earlier one of two deadlines, where zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// late says which deadline has passed.
func (c *Conn) late() *Violation {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case !c.admitted.Load() && c.in.version == 0:
		return violation(timedOut, "no CONNECT within %v", c.limits.Handshake)
	case !c.admitted.Load():
		return violation(timedOut, "CONNECT not accepted within %v", c.limits.Handshake)
	case !c.packet.IsZero() && !now.Before(c.packet):
		return violation(timedOut, "packet not complete after %v", c.limits.Handshake)
	}
	return violation(timedOut, "nothing came for %v", c.period)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
