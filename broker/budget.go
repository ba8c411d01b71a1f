package broker

import (
	"context"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"golang.org/x/time/rate"
)

// slowFor is how long a connection that is over its budget is slowed down,
// before it is told, and how often it is told: then it is cut off.
const (
	slowFor    = time.Second
	maxStrikes = 3
)

// budget is what a connection may do in a time: so many at once, and then so many
// a second. Who is over it is slowed down first, by not being read from; TCP tells
// its sender. Only who goes on for a second is refused something.
type budget struct {
	limiter *rate.Limiter // nil: no limit

	mu      sync.Mutex // guards what follows
	since   time.Time  // since when it is over; zero: it is not
	strikes int
}

func newBudget(perSecond, burst int) *budget {
	if perSecond <= 0 {
		return new(budget)
	}
	return &budget{limiter: rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))}
}

// spend takes one from the budget, and waits for it if need be, but not beyond the
// context. It returns an error (429) when that one is refused; cut says that it
// was the last.
func (b *budget) spend(ctx context.Context, what string) (err *topics.Error, cut bool) {
	if b.limiter == nil {
		return nil, false
	}
	now := time.Now()
	if b.limiter.AllowN(now, 1) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.since = (time.Time{}); b.limiter.TokensAt(now) >= float64(b.limiter.Burst())/2 {
			b.strikes = 0 // it has kept to its budget for a while
		}
		return nil, false
	}
	b.mu.Lock()
	if b.since.IsZero() {
		b.since = now
	}
	over := now.Sub(b.since) >= slowFor
	if over {
		b.since = now
		b.strikes++
	}
	cut = b.strikes >= maxStrikes
	b.mu.Unlock()
	if !over {
		_ = b.limiter.Wait(ctx) // it fails when the connection ends, which others notice
		return nil, false
	}
	e := topics.Errorf(topics.RateLimited, "more than %v %s a second: this one was refused", b.limiter.Limit(), what)
	e.RetryAfter = 1 / float64(b.limiter.Limit())
	return e, cut
}
