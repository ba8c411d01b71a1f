package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// parcel names a message: its number among those of one peer to another.
type parcel struct {
	from, to string
	n        int
}

// session is the parcel's name on the wire, which errors and byes carry back.
func (p parcel) session() string { return fmt.Sprintf("%s-%s-%d", p.from, p.to, p.n) }

func parcelOf(session string) (p parcel, ok bool) {
	part := parcelName.FindStringSubmatch(session)
	if part == nil {
		return p, false
	}
	n, err := strconv.Atoi(part[3])
	return parcel{part[1], part[2], n}, err == nil
}

var parcelName = regexp.MustCompile(`^([a-z0-9]+)-([a-z0-9]+)-([0-9]+)$`)

// entry is what became of a parcel.
type entry struct {
	sent     time.Time
	accepted time.Time // PUBACK or ok
	told     time.Time // by an error, a reason, a bye, or a cut without acknowledgement
	failed   bool      // told by the server, in words: not only by a cut
	got      []int     // the connections it came by
}

// visit is one connection of a peer, as its client sees it.
type visit struct {
	peer   string
	door   entrance
	joined time.Time // when it was welcome
	closed time.Time
	cut    bool // it did not end because the client left
}

// ledger holds what a trial's peers sent, what they received and what they were
// told. The promise: each message is delivered once, in the order of its pair, or
// its sender hears within the promise that it may not have been. It is delivered
// a second time only by a later connection of a receiver that was cut (package
// topics).
type ledger struct {
	name    string
	promise time.Duration // from sending until the sender hears
	hold    time.Duration // how long what was accepted may wait before it fails

	mu      sync.Mutex
	entries map[parcel]*entry
	visits  []visit
	kills   []time.Time                 // of the server
	came    map[int]map[[2]string][]int // by connection and pair, in the order of arrival
	strange []string                    // what no entry explains
}

func newLedger(name string, promise, hold time.Duration) *ledger {
	return &ledger{name: name, promise: promise, hold: hold,
		entries: make(map[parcel]*entry), came: make(map[int]map[[2]string][]int)}
}

// opened notes a new connection of a peer, and returns its number.
func (l *ledger) opened(peer string, door entrance) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits = append(l.visits, visit{peer: peer, door: door})
	return len(l.visits) - 1
}

// killed notes that the server is about to be killed.
func (l *ledger) killed(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kills = append(l.kills, at)
}

// waits notes that what was accepted could wait for d before its receiver was lost.
func (l *ledger) waits(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = max(l.hold, d+chaosGrace)
}

func (l *ledger) joined(conn int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits[conn].joined = at
}

// closed notes the end of a connection, before the peer opens the next.
func (l *ledger) closed(conn int, cut bool, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits[conn].closed, l.visits[conn].cut = at, cut
}

func (l *ledger) sends(p parcel, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[p] = &entry{sent: at}
}

// change does something to the entry of p.
func (l *ledger) change(p parcel, what string, do func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[p]
	if e == nil {
		l.strange = append(l.strange, fmt.Sprintf("%s was %s, and never sent", p.session(), what))
		return
	}
	do(e)
}

func (l *ledger) accepts(p parcel, at time.Time) {
	l.change(p, "accepted", func(e *entry) { e.accepted = at })
}

// fails notes that the server said what p did not come to, in words.
func (l *ledger) fails(p parcel, at time.Time) {
	l.change(p, "told", func(e *entry) {
		e.failed = true
		if e.told.IsZero() {
			e.told = at
		}
	})
}

// ends notes the bye of a peer that vanished: the session is over, whether p was
// delivered or not.
func (l *ledger) ends(p parcel, at time.Time) { l.unacknowledged(p, at) }

// unacknowledged notes that the connection p was sent on ended before an answer.
func (l *ledger) unacknowledged(p parcel, at time.Time) {
	l.change(p, "cut", func(e *entry) {
		if e.told.IsZero() {
			e.told = at
		}
	})
}

func (l *ledger) receives(p parcel, conn int) {
	l.change(p, "received", func(e *entry) {
		e.got = append(e.got, conn)
		if l.came[conn] == nil {
			l.came[conn] = make(map[[2]string][]int)
		}
		pair := [2]string{p.from, p.to}
		l.came[conn][pair] = append(l.came[conn][pair], p.n)
	})
}

// deliveries is how many messages of each peer have arrived.
func (l *ledger) deliveries() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := make(map[string]int)
	for p, e := range l.entries {
		if len(e.got) > 0 {
			count[p.from]++
		}
	}
	return count
}

// full waits until one more message is refused.
func (l *ledger) full(t testing.TB) {
	t.Helper()
	count := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range l.entries {
			if e.failed {
				n++
			}
		}
		return n
	}
	before := count()
	eventually(t, "a queue to be full", func() bool { return count() > before })
}

// settled reports whether nothing more has to come.
func (l *ledger) settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, e := range l.entries {
		heard := !e.accepted.IsZero() || !e.told.IsZero()
		if !heard || len(e.got) == 0 && e.told.IsZero() && !l.perished(e) && !l.absent(p, e) {
			return false
		}
	}
	return true
}

// atOnce is how soon what was accepted is written to a receiver who is there.
const atOnce = 250 * time.Millisecond

// perished reports whether a message may be gone with the memory of a server that
// was killed just when it had been accepted. Its sender's connection ended then,
// too. Nothing is promised for that moment.
func (l *ledger) perished(e *entry) bool {
	return !e.accepted.IsZero() && slices.ContainsFunc(l.kills, func(kill time.Time) bool {
		return kill.After(e.sent) && kill.Sub(e.accepted) < atOnce
	})
}

// absent reports whether the sender of p was itself lost for longer than the grace
// after it had sent: the server has given it up, and nobody is left to be told. It
// learns at its next join that it starts anew.
func (l *ledger) absent(p parcel, e *entry) bool {
	var lost time.Time
	for _, v := range l.visits {
		if v.peer != p.from || v.joined.IsZero() {
			continue
		}
		if !lost.IsZero() && v.joined.Sub(lost) >= chaosGrace {
			return true
		}
		lost = time.Time{}
		if v.cut && v.closed.After(e.sent) {
			lost = v.closed
		}
	}
	return false
}

// tally is the verdict on a ledger.
type tally struct {
	name string

	messages, delivered, told int
	doubled                   int // as allowed
	perished, absent          int // see the ledger's methods

	lost, silent, doubles, disorder, both int // as not

	worst time.Duration // until a sender was told
	wrong []string      // the latter five, in words
}

func (l *ledger) tally() *tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &tally{name: l.name, messages: len(l.entries), wrong: slices.Clone(l.strange)}
	for _, p := range slices.SortedFunc(maps.Keys(l.entries), func(a, b parcel) int {
		return l.entries[a].sent.Compare(l.entries[b].sent)
	}) {
		l.judge(t, p, l.entries[p])
	}
	l.follow(t)
	return t
}

// judge says whether p was delivered or told.
func (l *ledger) judge(t *tally, p parcel, e *entry) {
	since, heard, until := e.sent, e.accepted, l.promise
	switch {
	case len(e.got) > 0:
		t.delivered++
		if e.failed && !l.visits[e.got[len(e.got)-1]].cut {
			t.both++
			t.note("%s was delivered, and its sender told that it was not", p.session())
		}
		if heard.IsZero() {
			heard = e.told
		}
	case !e.told.IsZero():
		t.told++
		t.worst = max(t.worst, e.told.Sub(e.sent))
		heard = e.told
		if !e.accepted.IsZero() {
			until += l.hold
			since = l.lastLoss(p, e)
		}
	case l.perished(e):
		t.perished++
	case l.absent(p, e):
		t.absent++
	case !heard.IsZero():
		t.lost++
		t.note("%s was accepted after %v, never came, and nobody was told", p.session(), heard.Sub(e.sent))
	}
	switch {
	case heard.IsZero():
		t.silent++
		t.note("%s: its sender heard nothing", p.session())
	case heard.Sub(since) > until:
		t.silent++
		t.note("%s: its sender heard nothing for %v", p.session(), heard.Sub(e.sent))
	}
}

// lastLoss is when the time began for which p, accepted, could wait last: each loss
// of its receiver starts the grace anew for all that waits.
func (l *ledger) lastLoss(p parcel, e *entry) time.Time {
	last := e.sent
	for _, v := range l.visits {
		if v.peer == p.to && v.cut && v.closed.After(last) && v.closed.Before(e.told) {
			last = v.closed
		}
	}
	return last
}

// follow looks for doubles and disorder.
func (l *ledger) follow(t *tally) {
	type seen map[int]int // numbers, and the connection they came by last
	known := make(map[[2]string]seen)
	highest := make(map[[2]string]int)
	for conn := range l.visits {
		for pair, numbers := range l.came[conn] {
			if known[pair] == nil {
				known[pair] = make(seen)
			}
			last := 0
			for _, n := range numbers {
				name := parcel{pair[0], pair[1], n}.session()
				before, again := known[pair][n]
				switch {
				case again && l.mayRepeat(before, conn):
					t.doubled++
				case again:
					t.doubles++
					t.note("%s came twice", name)
				}
				if n < last || !again && n < highest[pair] {
					t.disorder++
					t.note("%s came after %d", name, max(last, highest[pair]))
				}
				known[pair][n] = conn
				last, highest[pair] = n, max(highest[pair], n)
			}
		}
	}
}

// mayRepeat reports whether what came by one connection may come by a later one:
// an acknowledgement, or the answer to a ping, may have been lost with the first.
func (l *ledger) mayRepeat(before, now int) bool {
	v := l.visits[before]
	return before != now && v.cut
}

func (t *tally) note(format string, args ...any) {
	t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
}

// chart is the summary of a run: a row for each fault.
type chart struct {
	mu   sync.Mutex
	rows []*tally
}

func (c *chart) add(t *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = append(c.rows, t)
}

func (c *chart) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmessages\tdelivered\ttold\tdoubled\tperished\tabsent\tlost\tsilent\tdoubles\tdisorder\tboth\tworst until told\t")
	for _, r := range c.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", r.name, r.messages, r.delivered, r.told,
			r.doubled, r.perished, r.absent, r.lost, r.silent, r.doubles, r.disorder, r.both, r.worst.Round(time.Millisecond))
	}
	w.Flush()
	return text.String()
}
