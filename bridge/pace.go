package bridge

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/beckon-rtc/beckon/topics"
)

// patience is how long a client that sends too many frames is slowed down, in all.
const patience = time.Second

// Pace is a client's budget of frames, whatever is in them: so many a second, and
// four times as many at once. Who is over it is slowed down, by not being read from;
// who was for a second in all, without a rest in which half of the budget came back,
// is to be cut off. It is for one goroutine.
type Pace struct {
	limiter *rate.Limiter // nil: no limit
	slowed  time.Duration // since the last rest
}

// NewPace makes one for so many frames a second; negative: no limit.
func NewPace(perSecond int) *Pace {
	if perSecond < 0 {
		return new(Pace)
	}
	return &Pace{limiter: rate.NewLimiter(rate.Limit(perSecond), 4*perSecond)}
}

// Spend takes a frame from the budget and waits if need be, until done at most. The
// error (429) says that the client is not to be waited for any more.
func (p *Pace) Spend(done <-chan struct{}) *topics.Error {
	if p.limiter == nil {
		return nil
	}
	now := time.Now()
	wait := p.limiter.ReserveN(now, 1).DelayFrom(now)
	switch {
	case wait == 0:
		if p.limiter.TokensAt(now) >= float64(p.limiter.Burst())/2 {
			p.slowed = 0
		}
		return nil
	case p.slowed >= patience:
		e := topics.Errorf(topics.RateLimited, "more than %v frames a second", p.limiter.Limit())
		e.RetryAfter = wait.Seconds()
		return e
	}
	p.slowed += wait
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	}
	return nil
}
