package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The ledger must be able to fail: each mistake is fed to it, and seen.
func TestChaosLedgerSeesEachMistake(t *testing.T) {
	start := time.Now()
	after := func(d time.Duration) time.Time { return start.Add(d) }
	p := func(n int) parcel { return parcel{"ann", "bob", n} }
	deliver := func(l *ledger, conn int, numbers ...int) {
		for _, n := range numbers {
			if l.entries[p(n)] == nil {
				l.sends(p(n), start)
				l.accepts(p(n), start)
			}
			l.receives(p(n), conn)
		}
	}
	for name, c := range map[string]struct {
		feed func(l *ledger)
		want tally
		says string
	}{
		"all is well": {
			feed: func(l *ledger) { deliver(l, l.opened("bob", mqtt5TCP), 1, 2, 3) },
			want: tally{messages: 3, delivered: 3},
		},
		"refused at once": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.fails(p(1), after(time.Second))
			},
			want: tally{messages: 1, told: 1, worst: time.Second},
		},
		"accepted, held, and failed in time": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.accepts(p(1), start)
				l.fails(p(1), after(6*time.Second))
			},
			want: tally{messages: 1, told: 1, worst: 6 * time.Second},
		},
		"cut before the acknowledgement": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.unacknowledged(p(1), after(time.Second))
			},
			want: tally{messages: 1, told: 1, worst: time.Second},
		},
		"cut before the acknowledgement, and delivered": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.unacknowledged(p(1), after(time.Second))
				deliver(l, l.opened("bob", mqtt5TCP), 1)
			},
			want: tally{messages: 1, delivered: 1},
		},
		"loss": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1)
				l.sends(p(2), start)
				l.accepts(p(2), start)
				deliver(l, conn, 3)
				l.closed(conn, true, after(time.Second))
			},
			want: tally{messages: 3, delivered: 2, lost: 1}, says: "ann-bob-2 was accepted",
		},
		"silence": {
			feed: func(l *ledger) { l.sends(p(1), start) },
			want: tally{messages: 1, silent: 1}, says: "ann-bob-1: its sender heard nothing",
		},
		"told too late": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.fails(p(1), after(3*time.Second))
			},
			want: tally{messages: 1, told: 1, silent: 1, worst: 3 * time.Second}, says: "heard nothing for 3s",
		},
		"held, and told too late": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.accepts(p(1), start)
				l.fails(p(1), after(8*time.Second))
			},
			want: tally{messages: 1, told: 1, silent: 1, worst: 8 * time.Second}, says: "heard nothing for 8s",
		},
		"held anew when its receiver was lost again": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.accepts(p(1), start)
				l.closed(l.opened("bob", mqtt5TCP), true, after(3*time.Second))
				l.fails(p(1), after(8*time.Second))
			},
			want: tally{messages: 1, told: 1, worst: 8 * time.Second},
		},
		"delivered, and acknowledged too late": {
			feed: func(l *ledger) {
				deliver(l, l.opened("bob", mqtt5TCP), 1)
				l.accepts(p(1), after(3*time.Second))
			},
			want: tally{messages: 1, delivered: 1, silent: 1}, says: "heard nothing for 3s",
		},
		"double by one connection": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1, 1)
				l.closed(conn, true, start)
			},
			want: tally{messages: 1, delivered: 1, doubles: 1}, says: "ann-bob-1 came twice",
		},
		"double after a cut": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1, 2, 3)
				l.closed(conn, true, start)
				deliver(l, l.opened("bob", jsonWS), 2, 3, 4)
			},
			want: tally{messages: 4, delivered: 4, doubled: 2},
		},
		"double after leaving": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1)
				l.closed(conn, false, start)
				deliver(l, l.opened("bob", mqtt5TCP), 1)
			},
			want: tally{messages: 1, delivered: 1, doubles: 1}, says: "ann-bob-1 came twice",
		},
		"double while the first connection lives": {
			feed: func(l *ledger) {
				deliver(l, l.opened("bob", mqtt5TCP), 1)
				deliver(l, l.opened("bob", mqtt5TCP), 1)
			},
			want: tally{messages: 1, delivered: 1, doubles: 1}, says: "ann-bob-1 came twice",
		},
		"disorder": {
			feed: func(l *ledger) { deliver(l, l.opened("bob", mqtt5TCP), 1, 3, 2) },
			want: tally{messages: 3, delivered: 3, disorder: 1}, says: "ann-bob-2 came after 3",
		},
		"disorder across connections": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1, 3)
				l.closed(conn, true, start)
				deliver(l, l.opened("bob", mqtt5TCP), 2, 4)
			},
			want: tally{messages: 4, delivered: 4, disorder: 1}, says: "ann-bob-2 came after 3",
		},
		"disorder among doubles": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1, 2)
				l.closed(conn, true, start)
				deliver(l, l.opened("bob", mqtt5TCP), 2, 1)
			},
			want: tally{messages: 2, delivered: 2, doubled: 2, disorder: 1}, says: "ann-bob-1 came after 2",
		},
		"delivered and told that it was not": {
			feed: func(l *ledger) {
				deliver(l, l.opened("bob", mqtt5TCP), 1)
				l.fails(p(1), start)
			},
			want: tally{messages: 1, delivered: 1, both: 1}, says: "ann-bob-1 was delivered, and",
		},
		"the same, of one that was cut and may not have it": {
			feed: func(l *ledger) {
				conn := l.opened("bob", mqtt5TCP)
				deliver(l, conn, 1)
				l.closed(conn, true, start)
				l.fails(p(1), start)
			},
			want: tally{messages: 1, delivered: 1},
		},
		"gone with a server that was killed": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.accepts(p(1), after(time.Second))
				l.killed(after(time.Second + atOnce/2))
			},
			want: tally{messages: 1, perished: 1},
		},
		"lost long before a kill": {
			feed: func(l *ledger) {
				l.sends(p(1), start)
				l.accepts(p(1), after(time.Second))
				l.killed(after(2*time.Second + atOnce))
			},
			want: tally{messages: 1, lost: 1}, says: "ann-bob-1 was accepted",
		},
		"lost after a kill": {
			feed: func(l *ledger) {
				l.killed(start)
				l.sends(p(1), after(time.Second))
				l.accepts(p(1), after(time.Second))
			},
			want: tally{messages: 1, lost: 1}, says: "ann-bob-1 was accepted",
		},
		"on its way to a WebSocket that was cut": {
			feed: func(l *ledger) {
				conn := l.opened("bob", jsonWS)
				l.joined(conn, start)
				l.sends(p(1), after(time.Second))
				l.accepts(p(1), after(time.Second))
				l.closed(conn, true, after(2*time.Second))
			},
			want: tally{messages: 1, lost: 1},
			says: "ann-bob-1 was accepted",
		},
		"of a sender who was away for longer than the grace": {
			feed: func(l *ledger) {
				conn := l.opened("ann", mqtt5TCP)
				l.joined(conn, start)
				l.sends(p(1), start)
				l.accepts(p(1), start)
				l.closed(conn, true, after(time.Second))
				l.joined(l.opened("ann", mqtt5TCP), after(time.Second+chaosGrace))
			},
			want: tally{messages: 1, absent: 1},
		},
		"of a sender who was back in time": {
			feed: func(l *ledger) {
				conn := l.opened("ann", mqtt5TCP)
				l.joined(conn, start)
				l.sends(p(1), start)
				l.accepts(p(1), start)
				l.closed(conn, true, after(time.Second))
				l.joined(l.opened("ann", mqtt5TCP), after(chaosGrace))
			},
			want: tally{messages: 1, lost: 1}, says: "ann-bob-1 was accepted",
		},
		"out of nowhere": {
			feed: func(l *ledger) { l.receives(p(7), l.opened("bob", mqtt5TCP)) },
			says: "ann-bob-7 was received, and never sent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger("", 2*time.Second, 5*time.Second)
			c.feed(l)
			got := l.tally()
			said := strings.Join(got.wrong, "\n")
			if (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
				t.Errorf("it says %q, want %q", said, c.says)
			}
			got.wrong = nil
			if fmt.Sprint(*got) != fmt.Sprint(c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

func TestChaosLedgerIsSettledWhenEachMessageHasAnEnd(t *testing.T) {
	now := time.Now()
	l := newLedger("", time.Second, time.Second)
	p := parcel{"ann", "bob", 1}
	l.sends(p, now)
	if l.settled() {
		t.Error("nobody has heard of the message yet")
	}
	l.accepts(p, now)
	if l.settled() {
		t.Error("the message has not come yet")
	}
	l.receives(p, l.opened("bob", mqtt5TCP))
	if !l.settled() {
		t.Error("the message has come")
	}
}

func TestChaosParcelsAreNamedOnTheWire(t *testing.T) {
	p := parcel{"cam1", "ann", 12}
	if got, ok := parcelOf(p.session()); !ok || got != p {
		t.Errorf("%v became %v, %v", p, got, ok)
	}
	for _, other := range []string{"", "s1", "a-b", "a-b-c", "a-b-1-2", "a-b-99999999999999999999"} {
		if got, ok := parcelOf(other); ok {
			t.Errorf("%q is taken for %v", other, got)
		}
	}
}
