package guard

import "time"

// slow holds a client to its budget of packets by not reading from it, which TCP
// tells it. Who is refused one, see package pace, is cut off.
func (c *Conn) slow() *Violation {
	n := c.in.came
	c.in.came = 0
	if n == 0 {
		return nil
	}
	wait, refused := c.pace.Spend(n)
	switch {
	case refused > 0:
		return violation(tooFast, "more than %d packets a second", c.limits.Packets)
	case wait == 0:
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.halt:
	}
	return nil
}
