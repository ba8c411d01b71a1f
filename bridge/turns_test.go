package bridge

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestTurnsAreCalledInTheirOrderOnOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := Turns{most: 1}
		var got []int // of one goroutine after the other
		begin := make(chan struct{})
		turns.Soon(func() { <-begin })
		for i := range 100 {
			turns.Soon(func() { got = append(got, i) })
		}
		close(begin)
		synctest.Wait()
		for i := range 100 {
			if len(got) != 100 || got[i] != i {
				t.Fatalf("they were called as %d", got)
			}
		}
	})
}

func TestManyTurnsWakeFewGoroutinesWhichGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := Turns{most: 3}
		var now, most, done atomic.Int64
		begin := make(chan struct{})
		for range 1000 {
			turns.Soon(func() {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				<-begin
				now.Add(-1)
				done.Add(1)
			})
		}
		synctest.Wait()
		if n := now.Load(); n != 3 {
			t.Errorf("%d goroutines are at work on 1000 turns, not 3", n)
		}
		close(begin)
		synctest.Wait()
		if done.Load() != 1000 || most.Load() > 3 {
			t.Errorf("%d turns were called, %d at once", done.Load(), most.Load())
		}
		if turns.running != 0 || len(turns.due) != 0 {
			t.Errorf("when all is done %d goroutines run", turns.running)
		}
	})
}

func TestATurnMayAskForAnother(t *testing.T) {
	turns, left := NewTurns(), 1000
	done := make(chan struct{})
	var next func()
	next = func() {
		if left--; left == 0 {
			close(done)
			return
		}
		turns.Soon(next)
	}
	turns.Soon(next)
	<-done
}

func TestTurnsThatNeverEndTakeNoMoreSpaceThanThoseThatWait(t *testing.T) {
	var turns Turns // none runs: the test takes them itself
	for range 10 {
		turns.Soon(func() {})
	}
	for range 10000 {
		for range turns.take(nil) {
			turns.Soon(func() {})
		}
	}
	if n := cap(turns.due); n > 64 {
		t.Errorf("there is space for %d turns where 10 wait", n)
	}
}

func TestManyTurnsThatWaitAreNotMovedForEachThatIsTaken(t *testing.T) {
	var turns Turns
	for range 10000 {
		turns.Soon(func() {})
	}
	turns.due = slices.Clip(turns.due) // as full as it gets
	moved := 0
	for range 1000 {
		first := &turns.due[0]
		for range turns.take(nil) {
			turns.Soon(func() {})
		}
		if turns.begun == 0 || &turns.due[0] != first {
			moved++
		}
	}
	if moved > 10 { // 16,000 turns went through
		t.Errorf("10000 turns were moved %d times", moved)
	}
	if n := cap(turns.due); n > 40000 {
		t.Errorf("there is space for %d turns where 10000 wait", n)
	}
}

func BenchmarkSoon(b *testing.B) {
	turns := NewTurns()
	var done sync.WaitGroup
	turn := func() { done.Done() }
	for b.Loop() {
		done.Add(200)
		for range 200 {
			turns.Soon(turn)
		}
		done.Wait()
	}
}
