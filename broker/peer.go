package broker

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// peer is one name in a room, for as long as it is known there: while its
// connection lives, while it is expected back, and, if it is a device, while it
// is offline. The room's lock guards it.
type peer struct {
	name     string
	device   bool     // it stays listed when it is offline
	member   *member  // the connection it has; nil while it has none
	session  *Session // of the connection that it has, or had last
	online   bool     // it is there, or expected back
	since    time.Time
	presence []byte // as announced
	status   topics.Status
	will     *message // published when it is given up
	calls    map[call]struct{}
	waiting  []*message  // sent while it was expected, or asleep; changed by room.waits only
	bytes    int         // of it
	timer    *time.Timer // runs while it is expected: back, or to open its inbox
	turn     int         // tells one run of the timer from the next
	patience *time.Timer // runs until the sender of something that waits is to be told
	due      time.Time   // when that is; zero: it does not run
}

// call is a session of signaling, as one of its two ends knows it.
type call struct{ session, with string }

func newPeer(s *Session) *peer {
	return &peer{name: s.peer, device: s.device, calls: make(map[call]struct{})}
}

// expect starts the time for which what is sent to p waits; a nil room ends it.
func (p *peer) expect(r *room, grace time.Duration) {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.turn++
	if r == nil || grace <= 0 {
		return
	}
	turn := p.turn
	p.timer = time.AfterFunc(grace, func() { r.expired(p, turn) })
}

// expected reports whether p is not there and may come, so that what is for it
// waits.
func (p *peer) expected() bool { return p.timer != nil || p.member != nil && p.member.away }

// has reports whether the session of m, which p sends, is open.
func (p *peer) has(m *message) bool {
	_, ok := p.calls[call{m.Session, m.Dst}]
	return ok
}

// end forgets the session of m, which p sent to other, on both sides. other may
// be nil.
func (p *peer) end(m *message, other *peer) {
	delete(p.calls, call{m.Session, m.Dst})
	if other != nil {
		delete(other.calls, call{m.Session, p.name})
	}
}

// sorted returns the peers by name, so that two snapshots are alike.
func (r *room) sorted() []*peer {
	return slices.SortedFunc(maps.Values(r.peers), func(a, b *peer) int { return cmp.Compare(a.name, b.name) })
}
