package door

import (
	"log/slog"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

const (
	// arrivalsAtOnce is how many seconds of its budget may arrive at once: a fleet
	// behind one address that comes back all together.
	arrivalsAtOnce = 10

	// banned is how long nothing more is looked at.
	banned = 10 * time.Second

	// mostArrivals is how many keys are counted; up to fewArrivals none is forgotten.
	mostArrivals = 10_000
	fewArrivals  = 100
)

// Arrivals is a budget of arrivals by key, such as an address: so many a second,
// and those of ten seconds at once. What is over it is refused; a key that is
// refused too often is banned for ten seconds. What is let in stays the same on
// average, so that a crowd behind one address gets in as fast as the budget allows,
// whether it is patient or not.
//
// The nil pointer sets no limit.
type Arrivals[K comparable] struct {
	each     time.Duration // for one to be forgotten
	patience int           // how many more refusals than others before a ban; negative: for ever

	mu     sync.Mutex // guards what follows
	byKey  map[K]arrival
	many   int // keys: then it is worth looking which say nothing
	pruned time.Time
}

type arrival struct {
	recovers time.Time
	refused  int
	banned   time.Time // until then
}

// NewArrivals makes one for so many a second; 0 or less: nil. A key is banned when
// it was refused so many times more than let in (0: at once, negative: never).
func NewArrivals[K comparable](perSecond, patience int) *Arrivals[K] {
	if perSecond <= 0 {
		return nil
	}
	return &Arrivals[K]{each: time.Second / time.Duration(perSecond), patience: patience, byKey: make(map[K]arrival)}
}

// Take counts an arrival: 0 if it may come in, or how long it has to wait. A
// banned one is not worth an answer.
func (a *Arrivals[K]) Take(key K) (wait time.Duration, ban bool) {
	if a == nil {
		return 0, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	was, known := a.byKey[key]
	if !known && !a.room(now) {
		return 0, false // a flood from everywhere, which the budget of all holds back
	}
	if left := was.banned.Sub(now); left > 0 {
		return left, true
	}
	if was.recovers.Before(now) {
		was.recovers = now
	}
	wait = was.recovers.Add(a.each).Sub(now) - time.Second*arrivalsAtOnce
	if wait <= 0 {
		was.recovers, was.refused, wait = was.recovers.Add(a.each), max(was.refused-1, 0), 0
	} else if was.refused++; a.patience >= 0 && was.refused > a.patience {
		was.refused, was.banned, wait = 0, now.Add(banned), banned
	}
	a.byKey[key] = was
	return wait, false
}

// room makes sure of it for one more key: those that say nothing go, which is
// looked for once a second at most.
func (a *Arrivals[K]) room(now time.Time) bool {
	if len(a.byKey) < a.many {
		return true
	}
	if now.Sub(a.pruned) < time.Second {
		return len(a.byKey) < mostArrivals
	}
	a.pruned = now
	full := len(a.byKey) >= mostArrivals
	for key, is := range a.byKey {
		if is.recovers.Before(now) && is.banned.Before(now) && (is.refused == 0 || full) {
			delete(a.byKey, key)
		}
	}
	a.many = min(max(2*len(a.byKey), fewArrivals), mostArrivals)
	return len(a.byKey) < mostArrivals
}

// TooMany is what is said of a refused arrival, such as "of this address".
func TooMany(of string, wait time.Duration) *topics.Error {
	e := topics.Errorf(topics.RateLimited, "too many new connections %s; try again in %.0f s", of, max(1, wait.Seconds()))
	e.RetryAfter = max(1, wait.Seconds())
	return e
}

// arrive counts a connection of c's client against the budgets. An error is for
// the client; banned ones are to be closed without one.
func (d *Door) arrive(c *conn) (refused *topics.Error, ban bool) {
	of, wait := "from this address", time.Duration(0)
	if c.from.IsValid() {
		wait, ban = d.perAddress.Take(c.from)
	}
	if wait == 0 && !c.arrived {
		of = "in all"
		wait, _ = d.inAll.Take(struct{}{})
	}
	c.arrived = false // the next request that upgrades is another arrival
	if wait == 0 {
		return nil, false
	}
	d.flooded.say(d.config.Logger, slog.LevelWarn, "connection refused: too many new ones "+of, "remote", c.RemoteAddr())
	return TooMany(of, wait), ban
}
