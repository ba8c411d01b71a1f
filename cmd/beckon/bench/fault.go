package bench

import (
	"maps"
	"slices"
	"sync"
)

// faults are the errors that the server told of, by code.
type faults struct {
	mu    sync.Mutex // guards what follows
	codes map[int]*Fault
}

// Fault is one code.
type Fault struct {
	Code  int    `json:"code"`
	Count int64  `json:"count"`
	First string `json:"first"` // what the first of them said
}

func (f *faults) add(code int, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.codes == nil {
		f.codes = make(map[int]*Fault)
	}
	if f.codes[code] == nil {
		f.codes[code] = &Fault{Code: code, First: text}
	}
	f.codes[code].Count++
}

func (f *faults) count() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.codes {
		n += c.Count
	}
	return n
}

// all are the faults by code.
func (f *faults) all() (list []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, code := range slices.Sorted(maps.Keys(f.codes)) {
		list = append(list, *f.codes[code])
	}
	return list
}
