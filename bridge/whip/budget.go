package whip

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/beckon-rtc/beckon/topics"
)

// budget is how many sessions each account may open: every one is a peer that the
// whole room sees come, and a call for a device.
type budget struct {
	perSecond int // negative: any number

	mu       sync.Mutex
	accounts map[string]*rate.Limiter
}

// slowFor is how long who is over its budget waits before it is refused, as at the
// other doors.
const slowFor = time.Second

// sweepAt is how many accounts are remembered before those are looked for that need
// not be.
const sweepAt = 1024

// spend takes one from the budget of an account, and waits for it if need be.
func (b *budget) spend(ctx context.Context, account string) error {
	if b.perSecond < 0 {
		return nil
	}
	now := time.Now()
	one := b.of(account, now).ReserveN(now, 1)
	wait := one.DelayFrom(now)
	if wait > slowFor {
		one.CancelAt(now)
		e := topics.Errorf(topics.RateLimited, "%s opens more than %d sessions a second", account, b.perSecond)
		e.RetryAfter = wait.Seconds()
		return e
	}
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return topics.Errorf(topics.Timeout, "the request's time is up")
	}
}

func (b *budget) of(account string, now time.Time) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.accounts[account]; l != nil {
		return l
	}
	if len(b.accounts) >= sweepAt {
		for name, l := range b.accounts {
			if l.TokensAt(now) >= float64(l.Burst()) {
				delete(b.accounts, name) // as good as new
			}
		}
	}
	l := rate.NewLimiter(rate.Limit(b.perSecond), b.perSecond)
	b.accounts[account] = l
	return l
}
