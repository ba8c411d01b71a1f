package bridge

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectionsEndOneAfterTheOtherWithinTheTimeOfADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		over, cancel := context.WithTimeout(context.Background(), -time.Second)
		defer cancel()
		for _, c := range []struct {
			ctx    context.Context
			n      int
			window time.Duration
		}{
			{context.Background(), 5000, 30 * time.Second},
			{context.Background(), 100, time.Second},
			{context.Background(), 0, 0},
			{short, 5000, 15 * time.Second},
			{over, 5000, 0},
		} {
			s := NewSpread(DrainTime(c.ctx), c.n)
			if s.Window != c.window {
				t.Errorf("%d connections end in %v, want %v", c.n, s.Window, c.window)
			}
			before := time.Duration(0)
			for i := range c.n {
				at := s.Of(i)
				if at < before || at > s.Window {
					t.Fatalf("connection %d of %d ends after %v, the one before after %v", i, c.n, at, before)
				}
				before = at
			}
		}
	})
}
