package turn

import (
	"sync"
	"time"
)

// ledger is whose credentials were told here, and whose count no more. Both are
// forgotten when they make no difference: an entry outlives the credentials it is
// about, and nothing that was revoked is forgotten earlier to save room.
type ledger struct {
	ttl  time.Duration // of credentials
	now  func() time.Time
	mu   sync.Mutex       // guards what is below
	told map[string]int64 // by identity: the last end, in Unix seconds, of credentials told to it
	cuts map[string]int64 // by identity: credentials that end then, or before, are revoked
	room int              // entries of told at which those of the past are removed
}

// longestLease is what pion gives a relay at most at a time. A request that was
// under way at a revocation may have made one, which nothing refreshes: for so
// long the ended credentials must not pass as those of a relay there is.
const longestLease = time.Hour

// mostAhead is how far ahead credentials end at most: those that end later were
// told while the clock was ahead, and are good for nothing when it is right again.
const mostAhead = maxTTL + time.Minute

func newLedger(ttl time.Duration, now func() time.Time) *ledger {
	return &ledger{ttl: ttl, now: now, told: make(map[string]int64), cuts: make(map[string]int64)}
}

// tell notes that credentials until end are told to an identity. Where they
// could be taken for revoked ones because both are of one second, whole ones
// (those not cut short for their identity) are made to end a second later.
func (l *ledger) tell(name string, end time.Time, whole bool) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setRight(name)
	if cut, ok := l.cuts[name]; ok && whole && end.Unix() <= cut {
		end = time.Unix(cut+1, 0)
	}
	if len(l.told) >= l.room {
		l.prune()
		l.room = 2*len(l.told) + 64
	}
	l.told[name] = max(l.told[name], end.Unix())
	return end
}

// names are those that were told credentials which have not ended.
func (l *ledger) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune()
	names := make([]string, 0, len(l.told))
	for name := range l.told {
		names = append(names, name)
	}
	return names
}

// revoke has the credentials that an identity was told before now count no more.
func (l *ledger) revoke(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setRight(name)
	l.cuts[name] = max(l.cuts[name], l.told[name], l.now().Add(l.ttl).Unix())
	delete(l.told, name)
}

// revoked reports whether credentials that end then were told before the
// identity was revoked. They say only when they end: those that were made short,
// as their identity ended soon, pass for older than they are.
func (l *ledger) revoked(name string, end time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	cut, ok := l.cuts[name]
	return ok && end.Unix() <= cut
}

// setRight takes care of what was noted of an identity while the clock was ahead:
// what was told, or revoked, before then ends at the latest when what is told now does.
func (l *ledger) setRight(name string) {
	now := l.now()
	for _, noted := range []map[string]int64{l.told, l.cuts} {
		if noted[name] > now.Add(mostAhead).Unix() {
			noted[name] = now.Add(l.ttl).Unix()
		}
	}
}

func (l *ledger) prune() {
	now := l.now()
	for name := range l.told {
		l.setRight(name)
	}
	for name := range l.cuts {
		l.setRight(name)
	}
	for name, end := range l.told {
		if now.After(time.Unix(end, 0)) {
			delete(l.told, name)
		}
	}
	for name, cut := range l.cuts {
		if now.After(time.Unix(cut, 0).Add(longestLease)) {
			delete(l.cuts, name)
		}
	}
}
