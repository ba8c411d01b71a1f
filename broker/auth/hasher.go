package auth

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// hasher is the pool behind which passwords are hashed: few at a time, and few
// that wait, so that guessing leaves the machine to signaling. Who has logged in
// from where it is waits in a lane of its own, so that strangers who guess do not
// keep out a camera that comes back.
type hasher struct {
	known, strangers lane
	aside            *aside       // nil: passwords are hashed in this process
	hashed           atomic.Int64 // how many were, for tests
}

// lane is a queue of the pool.
type lane struct {
	slots   chan struct{}
	most    int64 // that hash or wait
	pending atomic.Int64
}

// What bounds a queue: how many wait, and how long. Who has waited for so long is
// still there to be told, within the time for a handshake.
const (
	waitingPerSlot = 64
	longestWait    = 5 * time.Second
)

// A stranger's slot rests after a password that was wrong, so many times as long
// as it took to find out: so guesses have a quarter of what the pool could do.
const (
	restFactor = 3
	maxRest    = 300 * time.Millisecond
)

func newHasher(aside *aside) *hasher {
	slots := max(1, runtime.NumCPU()/2)
	p := &hasher{aside: aside}
	for _, l := range []*lane{&p.known, &p.strangers} {
		l.slots = make(chan struct{}, slots)
		l.most = int64(slots * (1 + waitingPerSlot))
	}
	return p
}

// verify reports whether password is what h was made of. When its turn has
// come, it asks first whether the attempt is still allowed.
func (p *hasher) verify(ctx context.Context, h hash, password string, attempt *attempt) (bool, error) {
	l := &p.strangers
	if attempt.known {
		l = &p.known
	}
	defer l.pending.Add(-1)
	if l.pending.Add(1) > l.most {
		return false, topics.Errorf(topics.Unavailable, "too many log in at once; try again in a few seconds")
	}
	late := time.NewTimer(longestWait)
	defer late.Stop()
	select {
	case l.slots <- struct{}{}:
	case <-late.C:
		return false, topics.Errorf(topics.Unavailable, "too many log in at once, the turn did not come in %v; try again", longestWait)
	case <-ctx.Done():
		return false, topics.Errorf(topics.Unavailable, "too many log in at once, the turn did not come in time; try again")
	}
	var rest time.Duration
	defer func() { l.leave(rest) }()
	if err := ctx.Err(); err != nil {
		return false, topics.Errorf(topics.Unavailable, "the login was given up")
	}
	if err := attempt.allowed(); err != nil {
		return false, err
	}
	p.hashed.Add(1)
	began := time.Now()
	ok := p.matches(h, password)
	if !ok && !attempt.known {
		rest = min(restFactor*time.Since(began), maxRest)
	}
	return ok, nil
}

// matches has the process aside look, or looks itself if that cannot.
func (p *hasher) matches(h hash, password string) bool {
	if p.aside != nil {
		if ok, err := p.aside.matches(h, password); err == nil {
			return ok
		}
	}
	return h.matches(password)
}

// leave gives the slot to the next, after a rest.
func (l *lane) leave(rest time.Duration) {
	if rest <= 0 {
		<-l.slots
		return
	}
	time.AfterFunc(rest, func() { <-l.slots })
}
