package bridge

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestBudgetsThatAreFullAgainAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1, 1, "asks more than once a second")
		for i := range 3 * sweepAt {
			if err := b.Spend(t.Context(), fmt.Sprint(i), 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // fake time
		}
		if len(b.accounts) > sweepAt {
			t.Errorf("%d are remembered", len(b.accounts))
		}
	})
}

func TestWhatCostsMoreTakesMoreOfABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10, 20, "asks more than ten times a second")
		began := time.Now()
		for range 4 { // 20 at once, and 10 a second
			if err := b.Spend(t.Context(), "alice", 10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		for range 10 {
			go func() { _ = b.Spend(t.Context(), "alice", 1) }()
		}
		synctest.Wait()
		e := topics.AsError(b.Spend(t.Context(), "alice", 10))
		if e.Code != topics.RateLimited || e.RetryAfter != 2 || e.Message != "alice asks more than ten times a second" {
			t.Errorf("the refusal is %v, try again in %v", e, e.RetryAfter)
		}
		if err := b.Spend(t.Context(), "bob", 20); err != nil {
			t.Errorf("bob pays for alice: %v", err)
		}
	})
}
