package bridge

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestPaceSlowsAFloodDownForASecondAndThenRefusesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, begin, n := NewPace(500), time.Now(), 0
		var err *topics.Error
		for ; err == nil; n++ {
			err = p.Spend(nil)
		}
		if took := time.Since(begin); took < time.Second || took > time.Second+10*time.Millisecond {
			t.Errorf("refused after %v", took)
		}
		if n < 2500 || n > 2510 {
			t.Errorf("%d frames passed, want 2000 and those of a second", n)
		}
		if err.Code != topics.RateLimited || err.RetryAfter <= 0 {
			t.Errorf("refused with %v, again in %v s", err, err.RetryAfter)
		}
	})
}

func TestPaceForgivesAPeakAndEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPace(10)
		for range 5 {
			for range 45 { // half a second over
				if err := p.Spend(nil); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Second)
		}
		done := make(chan struct{})
		close(done)
		begin := time.Now()
		for range 100 {
			p.Spend(done)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("a connection that has ended waits %v", took)
		}
		none := NewPace(-1)
		for range 100_000 {
			if err := none.Spend(nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
