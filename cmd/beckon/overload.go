package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// overload says when there is too little left for new connections: descriptors,
// of which files and accounts take some, too; memory, where GOMEMLIMIT bounds it;
// what waits in the queues of slow connections. Those that are there go on.
type overload struct {
	log        *slog.Logger
	queued     atomic.Int64 // bytes that wait to be written, counted by the doors
	mostQueued int64
	dirty      chan struct{} // asks run for the collector

	mu      sync.Mutex // guards what follows
	next    time.Time  // when to look again
	asked   int        // since it looked
	reason  string     // "": there is enough
	since   time.Time  // of the reason
	cycles  uint64     // of the garbage collector, when it looked
	cleaned time.Time
}

const (
	lookEvery    = 20 * time.Millisecond
	lookAfter    = 16              // connections at most
	looksLeast   = time.Second     // it looks again, however long that takes
	holdOn       = time.Second     // at least, so that the log is not filled by changes
	enoughAgain  = 0.95            // of what is too much
	mostMemory   = 0.80            // of GOMEMLIMIT: the collector would run all the time
	queuesShare  = 4               // the part of GOMEMLIMIT that may wait in queues
	leastReserve = 64              // descriptors, or a twentieth
	cleanEvery   = 5 * time.Second // while memory is too little
)

func newOverload(log *slog.Logger, mostQueued int64) *overload {
	o := &overload{log: log, mostQueued: mostQueued, dirty: make(chan struct{}, 1)}
	if limit := debug.SetMemoryLimit(-1); mostQueued > 0 && limit != math.MaxInt64 {
		o.mostQueued = min(mostQueued, limit/queuesShare)
	}
	return o
}

// run has the collector look when there is too little memory, until ctx is done. That
// takes a fraction of a second, for which nobody who comes should wait.
func (o *overload) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.dirty:
			runtime.GC()
		}
	}
}

// admit is what a client is told, nil if it may come.
func (o *overload) admit() *topics.Error {
	if o.why() == "" {
		return nil
	}
	e := topics.Errorf(topics.Unavailable, "the server is overloaded; try again")
	e.RetryAfter = 5
	return e
}

// why says what there is too little of, by which new connections are refused, "" if
// they are not. Anybody may ask: how much is left, by which an attack could be
// measured, is for the log.
func (o *overload) why() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.asked++; now.Before(o.next) && o.asked <= lookAfter {
		return o.reason
	}
	reason, numbers, share := o.look()
	took := time.Since(now)
	o.next, o.asked = now.Add(min(max(lookEvery, 50*took), looksLeast)), 0
	if took > lookEvery/50 {
		o.asked = math.MinInt // it costs too much to look more often
	}
	switch {
	case share >= 1 && o.reason == "":
		o.since = now
		o.log.Warn("overloaded: new connections are refused", "why", numbers)
		fallthrough
	case share >= enoughAgain && o.reason != "":
		o.reason = reason
	case o.reason != "" && now.Sub(o.since) >= holdOn:
		o.reason = ""
		o.log.Info("no longer overloaded: new connections are taken", "after", now.Sub(o.since).Round(time.Millisecond))
	}
	return o.reason
}

// look finds what there is least left of, and which share of what there may be is
// used. With o.mu held.
func (o *overload) look() (reason, numbers string, share float64) {
	worst := func(used, most int64, what, format string) {
		if part := float64(used) / float64(most); part > share {
			reason, numbers, share = what, fmt.Sprintf(format, used, most), part
		}
	}
	if o.mostQueued > 0 {
		worst(o.queued.Load(), o.mostQueued, "too much waits for slow connections", "%d bytes wait for slow connections, at most %d may (--limit-queues, GOMEMLIMIT)")
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		worst(o.memory(), int64(float64(limit)*mostMemory), "too little memory", "%d bytes of memory are in use, of %d that GOMEMLIMIT leaves")
	}
	if open, limit := descriptors(); limit > 0 {
		worst(open, limit-min(max(leastReserve, limit/20), limit/2), "too few descriptors", "%d descriptors are open, of %d that may be (ulimit -n, less a reserve)")
	}
	return reason, numbers, share
}

// memory is what the garbage collector can not free, in bytes: what it found alive
// last, and what is not its own. When it has not run for a while, and there seems to
// be little left, it is asked to.
func (o *overload) memory() int64 {
	used, cycles := memoryInUse()
	now := time.Now()
	if o.reason != "" && cycles == o.cycles && now.Sub(o.cleaned) >= cleanEvery {
		o.cleaned = now
		select {
		case o.dirty <- struct{}{}:
		default: // it has been asked to
		}
	}
	o.cycles = cycles
	return used
}

func memoryInUse() (used int64, cycles uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/metadata/mcache/inuse:bytes"},
		{Name: "/memory/classes/metadata/mspan/inuse:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"},
		{Name: "/memory/classes/os-stacks:bytes"},
		{Name: "/memory/classes/other:bytes"},
		{Name: "/memory/classes/profiling/buckets:bytes"},
	}
	metrics.Read(samples)
	for _, s := range samples[1:] {
		used += int64(s.Value.Uint64())
	}
	return used, samples[0].Value.Uint64()
}
