// Package pace is what becomes of a client that does more than it may in a time, the
// same at every door.
//
//	over the budget   --> it waits, which TCP tells it, for [Patience] in all
//	out of patience   --> one thing is refused, and the patience is as at first
//	within the budget --> a second of waiting is forgotten in ten, a refusal after ten
//
// So a peak is only slowed down, and who goes on above the budget is refused
// something every second, however little above it he is, and whatever he rests in
// between. How many refusals end his connection is the caller's.
package pace

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Patience is how long a client is slowed down, in all, before it is refused
	// something.
	Patience = time.Second

	// Forgetting is how long it takes to forget that: of the waiting a part for each
	// part of it, of refusals all when it has passed since the last one.
	Forgetting = 10 * time.Second
)

// A Budget is so many things a second, and so many at once. The zero value has no
// limit.
type Budget struct {
	limiter *rate.Limiter // nil: no limit

	mu      sync.Mutex    // guards what follows, of who has been over it
	until   time.Time     // the end of the last wait
	slowed  time.Duration // all of them, as far as they are not forgotten
	refused int
	last    time.Time // refusal
}

// New makes a Budget. Zero things a second, and less, set no limit.
func New(perSecond, atOnce int) *Budget {
	if perSecond <= 0 {
		return new(Budget)
	}
	return &Budget{limiter: rate.NewLimiter(rate.Limit(perSecond), max(atOnce, 1))}
}

// PerSecond is how many things a second there may be; zero: any number.
func (b *Budget) PerSecond() float64 {
	if b.limiter == nil {
		return 0
	}
	return float64(b.limiter.Limit())
}

// Spend takes n things from the budget, which the client is to wait for so long.
// When they are refused instead, refused counts how often that happened lately.
func (b *Budget) Spend(n int) (wait time.Duration, refused int) {
	if b.limiter == nil {
		return 0, 0
	}
	now := time.Now()
	if b.limiter.AllowN(now, n) {
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	if b.slowed >= Patience {
		b.slowed, b.last = 0, now
		b.refused++
		return 0, b.refused
	}
	for most := b.limiter.Burst(); n > 0; n -= most { // so many at once is what a limiter takes
		wait = b.limiter.ReserveN(now, min(n, most)).DelayFrom(now)
	}
	begin := now // several may wait at the same time, which counts once
	if b.until.After(now) {
		begin = b.until
	}
	more := min(max(now.Add(wait).Sub(begin), 0), Patience)
	b.slowed += more
	b.until = begin.Add(more)
	return b.until.Sub(now), 0
}

// forget lets the time since the last wait, and the last refusal, count.
func (b *Budget) forget(now time.Time) {
	if rest := now.Sub(b.until); rest > 0 {
		b.slowed = max(0, b.slowed-rest/(Forgetting/Patience))
	}
	if now.Sub(b.last) >= Forgetting {
		b.refused = 0
	}
}
