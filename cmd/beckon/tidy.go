package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// tidy gives memory back to the system when the server has become quiet. What a
// crowd took to come in, its stacks and its garbage, is up to as much again as
// what it takes to be there, and without work the collector does not run. While the
// server is busy nothing is done, and the collector keeps its usual pace (GOGC): to
// make that 50 instead costs CPU for every message, and keeps half of the garbage.
type tidy struct {
	then    uint64 // bytes allocated, ever, when it was looked at last
	cleaned uint64 // the same when memory was given back
}

const (
	tidyEvery = 2 * time.Second
	tidyQuiet = 64 // less than this part of what is alive, allocated since the last look, is quiet
	tidyWorth = 8  // what was allocated since memory was given back, and what is free, must be at least this part of it
	tidyLeast = 4 << 20
)

// run looks until ctx is done.
func (t *tidy) run(ctx context.Context) {
	look := time.NewTicker(tidyEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if t.due(heapNow()) {
				debug.FreeOSMemory()
				t.cleaned = heapNow().ever
			}
		}
	}
}

// due reports whether it is quiet, and there is something to be given back.
func (t *tidy) due(h heap) bool {
	lately := h.ever - t.then
	t.then = h.ever
	return lately < max(h.alive, tidyLeast)/tidyQuiet && h.ever-t.cleaned+h.free >= max(h.alive/tidyWorth, tidyLeast)
}

// heap is what tidy looks at, in bytes.
type heap struct {
	ever  uint64 // allocated
	alive uint64 // when the collector looked last
	free  uint64 // kept for what comes, such as what were stacks
}

func heapNow() heap {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(samples)
	return heap{ever: samples[0].Value.Uint64(), alive: samples[1].Value.Uint64(), free: samples[2].Value.Uint64()}
}
