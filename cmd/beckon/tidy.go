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
	tidyWorth = 8  // what was allocated since memory was given back must be at least this part of it
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
			if t.due(allocated()) {
				debug.FreeOSMemory()
				t.cleaned, _ = allocated()
			}
		}
	}
}

// due reports whether it is quiet, and there is something to be given back.
func (t *tidy) due(ever, alive uint64) bool {
	lately := ever - t.then
	t.then = ever
	return lately < max(alive, tidyLeast)/tidyQuiet && ever-t.cleaned >= max(alive/tidyWorth, tidyLeast)
}

// allocated is how many bytes were allocated ever, and how many were alive when the
// collector looked last.
func allocated() (ever, alive uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}
