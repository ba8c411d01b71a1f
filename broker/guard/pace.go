package guard

import (
	"time"

	"golang.org/x/time/rate"
)

// patience is how long a client that sends too many packets is slowed down, in
// all, unless it rests for so long that half of its budget comes back.
const patience = time.Second

// pace is the budget of a client's packets.
type pace struct {
	limiter *rate.Limiter // nil: no limit
	slowed  time.Duration // since the last rest
}

func newPace(perSecond int) pace {
	if perSecond < 0 {
		return pace{}
	}
	return pace{limiter: rate.NewLimiter(rate.Limit(perSecond), 4*perSecond)}
}

// spend takes n from the budget. The next read has to wait so long; tired says
// that there is not to be one.
func (p *pace) spend(n int) (wait time.Duration, tired bool) {
	if n == 0 || p.limiter == nil {
		return 0, false
	}
	now := time.Now()
	for most := p.limiter.Burst(); n > 0; n -= most { // so many at once is what a limiter takes
		wait = p.limiter.ReserveN(now, min(n, most)).DelayFrom(now)
	}
	switch {
	case wait == 0:
		if p.limiter.TokensAt(now) >= float64(p.limiter.Burst())/2 {
			p.slowed = 0
		}
		return 0, false
	case p.slowed >= patience:
		return 0, true
	}
	wait = min(wait, patience-p.slowed)
	p.slowed += wait
	return wait, false
}

// slow holds a client to its budget by not reading from it, which TCP tells it.
func (c *Conn) slow() *Violation {
	n := c.in.came
	c.in.came = 0
	wait, tired := c.pace.spend(n)
	switch {
	case tired:
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
