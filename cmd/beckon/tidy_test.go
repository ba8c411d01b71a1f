package main

import (
	"runtime"
	"testing"
)

func TestFiguresOfTheHeapAreThere(t *testing.T) {
	crowd := make([]byte, 16<<20)
	runtime.GC()
	before := heapNow()
	if before.alive < 16<<20 || before.ever < before.alive {
		t.Errorf("with 16 MiB alive: %+v", before)
	}
	runtime.KeepAlive(crowd)
	if after := heapNow(); after.ever < before.ever {
		t.Errorf("less was allocated, ever: %+v, then %+v", before, after)
	}
}

func TestMemoryIsGivenBackOnceACrowdHasComeIn(t *testing.T) {
	const mega = 1 << 20
	d := new(tidy)
	for _, look := range []struct {
		what              string
		ever, alive, free uint64
		due               bool
	}{
		{"nobody came yet", mega, mega, 0, false},
		{"they are coming", 40 * mega, 20 * mega, 0, false},
		{"more are coming", 90 * mega, 30 * mega, 0, false},
		{"they are there", 90*mega + 1000, 30 * mega, 0, true},
		{"they say little", 90*mega + 9000, 30 * mega, 0, false},
		{"they talk", 100 * mega, 30 * mega, 0, false},
		{"they are quiet again", 100*mega + 1000, 30 * mega, 0, true},
		{"still", 100*mega + 2000, 30 * mega, 0, false},
		{"one came", 101 * mega, 30 * mega, 0, false},
		{"that is not worth it", 101*mega + 1000, 30 * mega, 0, false},
		{"their stacks are free", 101*mega + 2000, 30 * mega, 10 * mega, true},
	} {
		if due := d.due(heap{look.ever, look.alive, look.free}); due != look.due {
			t.Errorf("%s: %v", look.what, due)
		} else if due {
			d.cleaned = look.ever
		}
	}
}
