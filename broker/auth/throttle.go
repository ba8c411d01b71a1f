package auth

import (
	"math"
	"net/netip"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"golang.org/x/time/rate"
)

// throttle counts failed logins, by the address and by the name that was
// claimed: so many a minute, then none is looked at until one is due again.
//
// An address from which a name has logged in has a count of its own with that
// name. So a stranger who guesses at cam1 does not lock cam1 out, and a camera
// with an old password does not lock out all that share its address.
type throttle struct {
	perMinute int // negative: no limit
	now       func() time.Time
	failed    *recent[*rate.Limiter] // by address, by name, and by both where they are known
	known     *recent[struct{}]      // address and name that have logged in
}

func newThrottle(perMinute int, now func() time.Time) *throttle {
	return &throttle{perMinute: perMinute, now: now, failed: newRecent[*rate.Limiter](), known: newRecent[struct{}]()}
}

// attempt is one login.
type attempt struct {
	t      *throttle
	pair   string   // address and name, "" unless there are both
	counts []string // where its failure counts
}

// attempt begins a login from an address under a name, either of which may be
// absent. Loopback counts as absent: a reverse proxy sits there.
func (t *throttle) attempt(from netip.Addr, name string) *attempt {
	a := &attempt{t: t}
	if t.perMinute < 0 {
		return a
	}
	address := network(from)
	if address != "" && name != "" {
		a.pair = address + " " + name
		if _, ok := t.known.get(a.pair); ok {
			a.counts = []string{"pair " + a.pair}
			return a
		}
	}
	if address != "" {
		a.counts = append(a.counts, "address "+address)
	}
	if name != "" {
		a.counts = append(a.counts, "name "+name)
	}
	return a
}

// network is what counts as one address: of IPv6 a /64, which one host has.
func network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsLoopback() {
		return ""
	}
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// allowed says whether the login may be looked at; if not, when.
func (a *attempt) allowed() error {
	now := a.t.now()
	for _, key := range a.counts {
		limiter, ok := a.t.failed.get(key)
		if !ok {
			continue
		}
		if tokens := limiter.TokensAt(now); tokens < 1 {
			wait := math.Ceil((1 - tokens) / float64(limiter.Limit()))
			err := topics.Errorf(topics.RateLimited, "too many logins failed; try again in %.0f s", wait)
			err.RetryAfter = wait
			return err
		}
	}
	return nil
}

// fail counts the login as failed. Those that were looked at together may bring
// a count below zero: it takes so much longer to recover.
func (a *attempt) fail() {
	now := a.t.now()
	for _, key := range a.counts {
		a.t.failed.put(key, func(l *rate.Limiter) *rate.Limiter {
			if l == nil {
				l = rate.NewLimiter(rate.Limit(float64(a.t.perMinute)/60), a.t.perMinute)
			}
			l.ReserveN(now, 1)
			return l
		})
	}
}

// succeed remembers that the name logs in from the address.
func (a *attempt) succeed() {
	if a.pair != "" {
		a.t.known.put(a.pair, func(struct{}) struct{} { return struct{}{} })
	}
}
