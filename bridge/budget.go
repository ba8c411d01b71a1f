package bridge

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/beckon-rtc/beckon/topics"
)

// Budget is how much each account may do by requests, which have no connection of
// their own to count under: so much a second, and some at once. Who is over it waits
// for a while, as at the other doors, before it is refused. The nil pointer sets no
// limit.
type Budget struct {
	perSecond, burst int
	over             string // what is said of who is over it

	mu       sync.Mutex
	accounts map[string]*rate.Limiter
}

// NewBudget makes one; negative: nil. What is over it is told to its account in the
// words of over, such as "opens more than 10 sessions a second".
func NewBudget(perSecond, burst int, over string) *Budget {
	if perSecond < 0 {
		return nil
	}
	return &Budget{perSecond: perSecond, burst: burst, over: over, accounts: make(map[string]*rate.Limiter)}
}

// slowFor is how long who is over its budget waits before it is refused, as at the
// other doors.
const slowFor = time.Second

// sweepAt is how many accounts are remembered before those are looked for that need
// not be.
const sweepAt = 1024

// Spend takes n, no more than the burst, from the budget of an account, and waits
// for it if need be. The error is an [*topics.Error] (429).
func (b *Budget) Spend(ctx context.Context, account string, n int) error {
	if b == nil {
		return nil
	}
	now := time.Now()
	some := b.of(account, now).ReserveN(now, n)
	wait := some.DelayFrom(now)
	if wait > slowFor {
		some.CancelAt(now)
		e := topics.Errorf(topics.RateLimited, "%s %s", account, b.over)
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

func (b *Budget) of(account string, now time.Time) *rate.Limiter {
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
	l := rate.NewLimiter(rate.Limit(b.perSecond), b.burst)
	b.accounts[account] = l
	return l
}
