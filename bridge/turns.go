package bridge

import (
	"runtime"
	"slices"
	"sync"
)

// Turns are short pieces of work, writes above all, that few goroutines do: as many
// as run at once, and none while there is nothing to do. So to say something to two
// hundred receivers wakes two goroutines and not two hundred, each of which would be
// made, find its stack too small, and go.
type Turns struct {
	most int // goroutines

	mu      sync.Mutex
	due     []func()
	begun   int // of due, at the front
	running int // goroutines
}

// turnsAtOnce is how many a goroutine takes at once; with twice as many for each that
// runs, another is started.
const turnsAtOnce = 16

// NewTurns returns turns for as many goroutines as there are processors.
func NewTurns() *Turns { return &Turns{most: runtime.GOMAXPROCS(0)} }

// Soon has turn called, after those that came before it have begun. It may be called
// with locks held that turn takes. A turn must not wait for anything but such locks.
func (t *Turns) Soon(turn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun > 0 && len(t.due) == cap(t.due) && t.begun >= len(t.due)/2 { // few are moved for each that began
		t.due, t.begun = slices.Delete(t.due, 0, t.begun), 0
	}
	t.due = append(t.due, turn)
	if t.running < t.most && len(t.due)-t.begun > 2*turnsAtOnce*t.running {
		t.running++
		go t.work()
	}
}

// work does what is due, and ends when nothing is.
func (t *Turns) work() {
	var space [turnsAtOnce]func()
	for {
		mine := t.take(space[:0])
		if len(mine) == 0 {
			return
		}
		for _, turn := range mine {
			turn()
		}
	}
}

// take appends the next turns to mine. When there are none the goroutine has to end.
func (t *Turns) take(mine []func()) []func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.due[t.begun:]
	next = next[:min(len(next), turnsAtOnce)]
	mine = append(mine, next...)
	clear(next)
	if t.begun += len(next); t.begun == len(t.due) {
		t.due, t.begun = t.due[:0], 0
	}
	if len(next) == 0 {
		t.running--
	}
	return mine
}
