package broker

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestFifoKeepsWhatASliceWould(t *testing.T) {
	var q fifo[int]
	var want []int
	for i := range 10_000 {
		switch n := rand.IntN(8); {
		case n < 4:
			q.push(i)
			want = append(want, i)
		case n < 7 && len(want) > 0:
			q.remove(0)
			want = want[1:]
		case len(want) > 0:
			at := rand.IntN(len(want))
			q.remove(at)
			want = slices.Delete(want, at, at+1)
		}
		if i%1000 == 999 {
			odd := func(v int) bool { return v%2 == 1 }
			q.removeAll(func(v *int) bool { return odd(*v) })
			want = slices.DeleteFunc(want, odd)
		}
		if !slices.Equal(q.items(), want) || q.empty() != (len(want) == 0) {
			t.Fatalf("%v, want %v", q.items(), want)
		}
	}
}

func TestFifoThatStaysLongMovesLittle(t *testing.T) {
	const long, passes = 10_000, 100_000
	var q fifo[int]
	for range long {
		q.push(0)
	}
	moved := 0
	for range passes {
		gone := q.gone
		q.push(0)
		if q.gone < gone {
			moved += len(q.items())
		}
		q.remove(0)
	}
	if moved > 2*passes {
		t.Errorf("%d items were moved while %d passed", moved, passes)
	}
	if n := cap(q.all); n > 4*long {
		t.Errorf("%d items take %d places", long, n)
	}
}

func TestFifoThatWentEmptyAllocatesNothing(t *testing.T) {
	var q fifo[*message]
	m := new(message)
	if n := testing.AllocsPerRun(1000, func() {
		for range 5 {
			q.push(m)
		}
		for range 5 {
			q.remove(0)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
