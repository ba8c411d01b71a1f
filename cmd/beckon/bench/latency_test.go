package bench

import (
	"math"
	"testing"
	"time"
)

func TestPercentilesAreThoseOfWhatWasNoted(t *testing.T) {
	l := newLatency()
	if l.percentiles() != nil {
		t.Error("there are percentiles of nothing")
	}
	for i := range 1000 {
		l.add(i, time.Duration(i+1)*time.Millisecond)
	}
	l.add(0, time.Hour) // as long as can be told
	got := l.percentiles()
	for _, test := range []struct{ got, want float64 }{{got.P50, 501}, {got.P99, 991}, {got.P999, 1000}, {got.Max, 60_000}} {
		if math.Abs(test.got-test.want) > test.want/500 {
			t.Errorf("%+v: %v is not %v", got, test.got, test.want)
		}
	}
}
