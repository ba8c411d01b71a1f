package main

import (
	"fmt"
	"testing"
	"time"
)

// Between some peers and the server something is wrong, on all kinds of doors and
// in both directions; others are near it. What each says to each other is in the
// ledger.
func TestChaosOnTheWay(t *testing.T) {
	t.Parallel()
	summary := new(chart)
	t.Cleanup(func() { t.Logf("on the way:\n%s", summary) })
	for _, c := range []struct {
		name     string
		always   toxic         // from the beginning
		now      toxic         // in the middle of it, on the connections of then
		every    time.Duration // how often
		pace     time.Duration
		patience time.Duration
		away     time.Duration
	}{
		{name: "nothing"},
		{name: "latency", always: latency},
		{name: "single bytes", always: slices1},
		{name: "small packets", always: jumble},
		{name: "1 KB/s", always: trickle, pace: 600 * time.Millisecond, patience: 15 * time.Second},
		{name: "resets", now: reset, every: 500 * time.Millisecond},
		{name: "resets and latency", always: latency, now: reset, every: 700 * time.Millisecond},
		{name: "long absences", now: reset, every: 300 * time.Millisecond, away: chaosGrace},
		{name: "half-open", now: silence, every: 600 * time.Millisecond, patience: 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr := startTrial(t)
			tr.addOfEachDoor()
			for _, s := range tr.peers {
				if c.pace != 0 {
					s.pace = c.pace
				}
				if c.away != 0 && s.site == tr.far {
					s.away = c.away
				}
				if c.patience != 0 {
					s.patience = c.patience
					tr.ledger.promise = max(tr.ledger.promise, c.patience)
				}
			}
			if c.always != (toxic{}) {
				tr.proxy.on(c.always)
			}
			tr.enter()
			every := c.every
			if every == 0 {
				every = time.Hour
			}
			tr.run(lasting(1500*time.Millisecond), every, func() { tr.proxy.infect(c.now) })
			tr.settle(summary)
		})
	}
	for name, away := range map[string]time.Duration{"resets, resumed": 200 * time.Millisecond, "absences beyond the grace, resumed": 2 * chaosGrace} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := startTrial(t)
			tr.addWhoResume()
			for _, s := range tr.peers {
				if s.resumes {
					s.away = away
				}
			}
			tr.ledger.waits(2 * away) // for who will resume
			tr.enter()
			tr.run(lasting(max(1500*time.Millisecond, 2*away)), 500*time.Millisecond, func() { tr.proxy.infect(reset) })
			tr.settle(summary)
			resumed := 0
			for _, s := range tr.peers {
				resumed += s.memory.times
			}
			t.Logf("%d times one went on where it was", resumed)
			if resumed == 0 {
				t.Error("nobody resumed")
			}
		})
	}
	t.Run("stalled receivers", func(t *testing.T) {
		t.Parallel()
		tr := startTrial(t)
		tr.addOfEachDoor()
		for _, s := range tr.peers {
			s.padding = 56 << 10
			if s.site == tr.far {
				s.to = []string{} // one who writes would notice
			}
		}
		tr.enter()
		begin := time.Now()
		for first := true; first || time.Since(begin) < *chaos/6; first = false {
			stalled, release := time.Now(), tr.proxy.stall()
			before := tr.near.count("connection lost")
			tr.ledger.full(t)
			eventually(t, "the end of their connections", func() bool { return tr.near.count("connection lost") >= before+len(mainEntrances) })
			tr.ledger.waits(time.Since(stalled)) // in their sockets
			release()
			for _, s := range tr.peers {
				s.hasAll()
			}
		}
		tr.settle(summary)
	})
	t.Run("storm of reconnects", func(t *testing.T) {
		t.Parallel()
		tr := startTrial(t)
		for i := range 24 {
			doors := append([]entrance{mqtt5WS}, mainEntrances...)
			s := tr.add(tr.far, fmt.Sprintf("far%d", i), append(doors[i%5:], doors[:i%5]...)...)
			s.pace = 50 * time.Millisecond
		}
		tr.enter()
		tr.run(lasting(2*time.Second), 900*time.Millisecond, func() { tr.proxy.infect(reset) })
		tr.settle(summary)
	})
}
