package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// drainTime is how long a drain takes at most when its context says nothing, and
// drainStep the most of it that is spent on each connection.
const (
	drainTime = 30 * time.Second
	drainStep = 10 * time.Millisecond
)

// DrainTime is over which time a drain that ends with ctx ends its connections, at most:
// the rest is for the last of them to close.
func DrainTime(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Until(end)*3/4, 0)
	}
	return drainTime
}

// Spread is when the connections of a door that drains end, so that their clients do not
// all come back in the same second.
type Spread struct {
	Window time.Duration // in which all of them end
	n      int
}

// NewSpread is that of n connections, in that time at most.
func NewSpread(most time.Duration, n int) Spread {
	return Spread{Window: min(most, time.Duration(n)*drainStep), n: n}
}

// Of is in how long the connection of that number, from 0, ends.
func (s Spread) Of(i int) time.Duration {
	return time.Duration((float64(i) + rand.Float64()) / float64(s.n) * float64(s.Window))
}

// Goaway is the frame that tells a client in how long its connection ends, since the
// server does.
func Goaway(in time.Duration) []byte {
	return fmt.Appendf(nil, `{"type":"goaway","reason":"shutdown","in":%d}`, (in+time.Second-1)/time.Second)
}
