package auth

import (
	"container/heap"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// throttle counts failed logins, by the address and by the name that was
// claimed: so many a minute, then none is looked at until one is due again.
//
// An address from which a name has logged in has a count of its own with that
// name. So a stranger who guesses at cam1 does not lock out a cam1 that has
// logged in from where it is, and a camera with an old password that it has
// logged in with before does not lock out all that share its address.
//
// What is not protected: the count of a name is one for all other addresses, so
// guesses at cam1 lock out a cam1 that comes from an address where it has not
// logged in before. That is every camera after a restart, since nothing of this
// is kept in a file; one whose address changed; one that is not among the last
// 10 000 that logged in. Behind a proxy on loopback it is every camera always:
// all come from one address there, which says nothing of who they are and is
// left out, so only the name's count is there, shared by the camera and whoever
// guesses. Without that count a password could be guessed at from any number of
// addresses. A token, or a certificate without a password, claims no name, and
// is not held up by it.
//
// So many names, addresses and pairs of them are counted, each kind apart, so
// that a flood of one kind does not push out another. When there are too many,
// the count that is nearest to recovery goes: one that has recovered, which says
// nothing, or else the one with the fewest failures left. Those that are
// held up go last.
type throttle struct {
	perMinute int // negative: no limit
	now       func() time.Time
	addresses *counts
	names     *counts
	pairs     *counts           // of the known
	known     *recent[struct{}] // address and name that have logged in
}

func newThrottle(perMinute int, now func() time.Time) *throttle {
	return &throttle{
		perMinute: perMinute, now: now,
		addresses: newCounts(perMinute), names: newCounts(perMinute), pairs: newCounts(perMinute),
		known: newRecent[struct{}](),
	}
}

// attempt is one login.
type attempt struct {
	t       *throttle
	pair    string    // address and name, "" unless there are both
	known   bool      // they have logged in together
	counted []counted // where its failure counts
}

// counted is a key in counts.
type counted struct {
	in  *counts
	key string
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
			a.known, a.counted = true, []counted{{t.pairs, a.pair}}
			return a
		}
	}
	if address != "" {
		a.counted = append(a.counted, counted{t.addresses, address})
	}
	if name != "" {
		a.counted = append(a.counted, counted{t.names, name})
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
	for _, c := range a.counted {
		if wait := c.in.wait(c.key, now); wait > 0 {
			seconds := math.Ceil(wait.Seconds())
			err := topics.Errorf(topics.RateLimited, "too many logins failed; try again in %.0f s", seconds)
			err.RetryAfter = seconds
			return err
		}
	}
	return nil
}

// fail counts the login as failed. Those that were looked at together may bring
// a count below zero: it takes so much longer to recover.
func (a *attempt) fail() {
	now := a.t.now()
	for _, c := range a.counted {
		c.in.fail(c.key, now)
	}
}

// succeed remembers that the name logs in from the address.
func (a *attempt) succeed() {
	if a.pair != "" {
		a.t.known.put(a.pair, func(struct{}) struct{} { return struct{}{} })
	}
}

// counts are failures by key: buckets, from which each takes one and which fill
// up with time.
type counts struct {
	each time.Duration // for one to come back
	free time.Duration // a key with that much to recover may fail once more
	most int

	mu    sync.Mutex // guards what follows
	byKey map[string]*count
	order byRecovery
}

type count struct {
	key string
	at  int       // in order
	end time.Time // when it has recovered
}

func newCounts(perMinute int) *counts {
	each := time.Minute / time.Duration(max(perMinute, 1))
	return &counts{each: each, free: each * time.Duration(max(perMinute, 1)-1), most: maxRecent, byKey: make(map[string]*count)}
}

// wait is how long it takes until key may fail once more.
func (c *counts) wait(key string, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.byKey[key]
	if !ok {
		return 0
	}
	return n.end.Sub(now) - c.free
}

func (c *counts) fail(key string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.byKey[key]
	if ok {
		if n.end.Before(now) {
			n.end = now
		}
		n.end = n.end.Add(c.each)
		heap.Fix(&c.order, n.at)
		return
	}
	if len(c.order) >= c.most {
		first := heap.Pop(&c.order).(*count)
		delete(c.byKey, first.key)
	}
	n = &count{key: key, end: now.Add(c.each)}
	c.byKey[key] = n
	heap.Push(&c.order, n)
}

// byRecovery is a heap: first is what has recovered, or will before the others.
type byRecovery []*count

func (b byRecovery) Len() int           { return len(b) }
func (b byRecovery) Less(i, j int) bool { return b[i].end.Before(b[j].end) }
func (b byRecovery) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].at, b[j].at = i, j
}

func (b *byRecovery) Push(x any) {
	n := x.(*count)
	n.at = len(*b)
	*b = append(*b, n)
}

func (b *byRecovery) Pop() any {
	last := len(*b) - 1
	n := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return n
}
