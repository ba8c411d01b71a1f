package broker

import (
	"context"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/pace"
)

// maxStrikes is how often a connection that is over its budget is told: then it is
// cut off.
const maxStrikes = 3

// budget is what a connection may do in a time: so many at once, and then so many
// a second. Who is over it is slowed down first, by not being read from; TCP tells
// its sender. When it is refused something, package pace says.
type budget struct{ *pace.Budget }

// newBudget makes one. A negative number sets no limit.
func newBudget(perSecond, burst int) *budget {
	if burst < 0 {
		perSecond = 0
	}
	return &budget{pace.New(perSecond, burst)}
}

// spend takes one from the budget, and waits for it if need be, but not beyond the
// context. It returns an error (429) when that one is refused; cut says that it
// was the last.
func (b *budget) spend(ctx context.Context, what string) (err *topics.Error, cut bool) {
	wait, refused := b.Spend(1)
	switch {
	case refused > 0:
		e := topics.Errorf(topics.RateLimited, "more than %v %s a second: this one was refused", b.PerSecond(), what)
		e.RetryAfter = 1 / b.PerSecond()
		return e, refused >= maxStrikes
	case wait == 0:
		return nil, false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done(): // the connection ended, which others notice
	}
	return nil, false
}
