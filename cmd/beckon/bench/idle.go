package bench

import (
	"errors"
	"fmt"
	"time"
)

// Idle is "beckon bench idle".
type Idle struct {
	Settings
	Connections int           `help:"How many." default:"1000"`
	Rooms       int           `help:"Rooms to spread them over. 0: one for each." default:"0"`
	Hold        time.Duration `help:"How long they stay." default:"10s"`
}

// Validate is for kong, and reports every mistake.
func (i *Idle) Validate() error {
	return errors.Join(i.check(), positive("connections", i.Connections), notNegative("rooms", i.Rooms), notNegative("hold", i.Hold))
}

// Run runs it and shows the result.
func (i *Idle) Run(program Program) error {
	ctx, stop := interruptible()
	defer stop()
	r, err := newRun("idle", &i.Settings, program, 0)
	if err != nil {
		return err
	}
	defer r.leave()
	r.gather(i.Connections, i.Rooms)
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.show(func() string { return fmt.Sprintf("%d connections", len(r.peers)) })()
	m, err := r.measure()
	if err != nil {
		return err
	}
	wait(ctx, i.Hold)
	m.took()
	if err := m.end(0); err != nil {
		return err
	}
	r.result.CPUPerConnection = r.result.CPUSeconds * 1e6 / float64(len(r.peers)) / max(r.result.Seconds, 1e-3)
	if err := r.result.connected(r); err != nil {
		return err
	}
	r.present(ctx)
	return r.finish()
}

// gather makes peers that do nothing.
func (r *run) gather(connections, rooms int) {
	r.buffer = 512
	if rooms == 0 {
		rooms = connections
	}
	for n := range connections {
		r.add('p', n, n%rooms, r.Door, n)
	}
}
