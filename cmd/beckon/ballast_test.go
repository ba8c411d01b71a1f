package main

import (
	"math"
	"testing"
)

func TestThereIsNoBallastWhereMemoryIsLimited(t *testing.T) {
	if n := len(ballast(1 << 30)); n > 0 {
		t.Errorf("%d bytes count in the limit", n)
	}
	if n := len(ballast(math.MaxInt64)); n != ballastSize {
		t.Errorf("without a limit there are %d bytes", n)
	}
}
