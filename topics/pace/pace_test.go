package pace

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spend waits as it is told.
func (b *Budget) spend(n int) (refused int) {
	wait, refused := b.Spend(n)
	time.Sleep(wait) // of fake time
	return refused
}

func TestAFloodJustAboveTheBudgetIsRefusedAsSoonAsAGreatOne(t *testing.T) {
	for _, perSecond := range []int{51, 60, 100, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			b := New(50, 200)
			begin := time.Now()
			over := time.Time{} // when it was slowed down first
			var at []time.Duration
			for n := 0; len(at) < 3; n++ {
				// What comes is read when the wait is over; it was sent in time.
				if sent := begin.Add(time.Second * time.Duration(n) / time.Duration(perSecond)); time.Until(sent) > 0 {
					time.Sleep(time.Until(sent))
				}
				if over.IsZero() && b.limiter.Tokens() < 1 {
					over = time.Now()
				}
				if refused := b.spend(1); refused > 0 {
					at = append(at, time.Since(over))
					if refused != len(at) {
						t.Errorf("refusal %d is counted as %d", len(at), refused)
					}
				}
				if n > 100_000 {
					t.Fatalf("%d a second: after %v and %d things it was refused %d times", perSecond, time.Since(begin), n, len(at))
				}
			}
			if last := at[2]; last < 3*Patience || last > 5*Patience {
				t.Errorf("%d a second: refused after %v", perSecond, at)
			}
		})
	}
}

func TestOneThingInTheBudgetForgivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(50, 1)
		refused := 0
		for range 1000 {
			for range 10 { // nine of them wait, 180 ms
				refused = max(refused, b.spend(1))
			}
			if refused >= 3 {
				return
			}
			time.Sleep(25 * time.Millisecond) // so that the next one need not
		}
		t.Errorf("it was refused %d times in a row", refused)
	})
}

func TestAPeakIsForgottenInTenTimesItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10, 10)
		for range 100 {
			for range 15 { // five of them wait, half a second
				if b.spend(1) > 0 {
					t.Fatal("refused")
				}
			}
			time.Sleep(5 * time.Second)
		}
	})
}

func TestARefusalIsForgottenAfterTenSecondsWithoutAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10, 10)
		for range 10 {
			refused := 0
			for refused == 0 {
				refused = b.spend(1)
			}
			if refused != 1 {
				t.Fatalf("the refusal is number %d", refused)
			}
			time.Sleep(Forgetting)
		}
	})
}

func TestManyAtOnceWaitForOneSecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10, 10)
		if wait, refused := b.Spend(1000); wait != Patience || refused != 0 {
			t.Errorf("it waits %v, %d", wait, refused)
		}
		time.Sleep(Patience)
		if _, refused := b.Spend(1); refused != 1 {
			t.Error("it is not refused then")
		}
	})
}

func TestWhoWaitAtTheSameTimeCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10, 1)
		var all sync.WaitGroup
		for range 10 { // the last one waits 0.9 s
			all.Go(func() {
				if b.spend(1) > 0 {
					t.Error("refused")
				}
			})
		}
		all.Wait()
	})
}

func TestWithoutALimitNothingWaits(t *testing.T) {
	for _, b := range []*Budget{New(-1, 5), New(0, 5), {}} {
		if wait, refused := b.Spend(1 << 40); wait != 0 || refused != 0 {
			t.Errorf("it waits %v, %d", wait, refused)
		}
	}
}
