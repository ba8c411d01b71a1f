package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latency collects how long something took, to three digits, from a microsecond to
// a minute. It has several histograms, so that readers don't wait for each other.
type latency struct {
	parts [8]struct {
		mu   sync.Mutex // guards hist
		hist *hdrhistogram.Histogram
	}
}

const longest = time.Minute

func newLatency() *latency {
	l := new(latency)
	for i := range l.parts {
		l.parts[i].hist = hdrhistogram.New(1, longest.Microseconds(), 3)
	}
	return l
}

// add notes d. Who says which of many does so.
func (l *latency) add(who int, d time.Duration) {
	part := &l.parts[uint(who)%uint(len(l.parts))]
	part.mu.Lock()
	defer part.mu.Unlock()
	_ = part.hist.RecordValue(min(max(d, time.Microsecond), longest).Microseconds())
}

// Percentiles is a distribution, in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// percentiles is nil where nothing was noted.
func (l *latency) percentiles() *Percentiles {
	all := hdrhistogram.New(1, longest.Microseconds(), 3)
	for i := range l.parts {
		part := &l.parts[i]
		part.mu.Lock()
		all.Merge(part.hist)
		part.mu.Unlock()
	}
	if all.TotalCount() == 0 {
		return nil
	}
	at := func(q float64) float64 { return float64(all.ValueAtQuantile(q)) / 1000 }
	return &Percentiles{P50: at(50), P99: at(99), P999: at(99.9), Max: float64(all.Max()) / 1000}
}
