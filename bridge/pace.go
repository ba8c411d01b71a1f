package bridge

import (
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/pace"
)

// Pace is a client's budget of frames, whatever is in them: so many a second, and
// four times as many at once. Who is over it is slowed down, by not being read from;
// who is refused one, see package pace, is to be cut off. It is for one goroutine.
type Pace struct{ frames *pace.Budget }

// NewPace makes one for so many frames a second; negative: no limit.
func NewPace(perSecond int) *Pace { return &Pace{pace.New(perSecond, 4*perSecond)} }

// Spend takes a frame from the budget and waits if need be, until done at most. The
// error (429) says that the client is not to be waited for any more.
func (p *Pace) Spend(done <-chan struct{}) *topics.Error {
	wait, refused := p.frames.Spend(1)
	switch {
	case refused > 0:
		e := topics.Errorf(topics.RateLimited, "more than %v frames a second", p.frames.PerSecond())
		e.RetryAfter = 1 / p.frames.PerSecond()
		return e
	case wait == 0:
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	}
	return nil
}
