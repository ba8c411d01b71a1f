package broker

import (
	"context"
	"time"
)

// What lasts for a while here (a grace, a hold, a budget, a keep-alive) is
// measured on a clock that nobody can set. Credentials end at a time of day, and
// the clock of the day can be set, by NTP or a person, or go on alone while the
// machine sleeps.

// A clock that was set is noticed within a second, if by more than a second: less
// makes no difference to credentials.
const (
	lookAtClock = time.Second
	clockSlack  = time.Second
)

// WatchClock looks, until ctx is done, whether the clock was set. If it was, each
// session ends when its credentials do by the new time, and is told new ones for
// the ICE servers.
func (b *Broker) WatchClock(ctx context.Context) {
	tick := time.NewTicker(lookAtClock)
	defer tick.Stop()
	began, day := time.Now(), b.Now().Round(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		by := b.Now().Round(0).Sub(day) - time.Since(began)
		if by.Abs() <= clockSlack {
			continue // steps too small to count, until they add up
		}
		began, day = time.Now(), b.Now().Round(0)
		b.Logger.Warn("the clock was set, or the machine slept", "by", by.Round(time.Second))
		for _, s := range b.allSessions() {
			s.clockWasSet()
		}
	}
}

func (s *Session) clockWasSet() {
	for was := s.identity.Load(); was != nil && !was.Expires.IsZero(); was = s.identity.Load() {
		if s.swap(was, *was) || s.isClosed() {
			break
		}
	}
	s.mu.Lock()
	told := s.renewal != nil
	s.mu.Unlock()
	if told {
		s.tellICE()
	}
}
