package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Storm is "beckon bench storm".
type Storm struct {
	Settings
	Connections int           `help:"How many." default:"1000"`
	Rooms       int           `help:"Rooms to spread them over. 0: one for each." default:"0"`
	Jitter      time.Duration `help:"Each comes back after a part of this time, by chance." default:"1s"`
	Patience    time.Duration `help:"When who is not back is lost." default:"60s"`
}

// Validate is for kong, and reports every mistake.
func (s *Storm) Validate() error {
	wrong := []error{s.check(), positive("connections", s.Connections), notNegative("rooms", s.Rooms), notNegative("jitter", s.Jitter)}
	if s.Patience <= 0 {
		wrong = append(wrong, errors.New("--patience is not positive"))
	}
	return errors.Join(wrong...)
}

// Run runs it and shows the result.
func (s *Storm) Run(program Program) error {
	ctx, stop := interruptible()
	defer stop()
	r, err := newRun("storm", &s.Settings, program, 0)
	if err != nil {
		return err
	}
	defer r.leave()
	r.gather(s.Connections, s.Rooms)
	if err := r.connect(ctx); err != nil {
		return err
	}
	var back, failed atomic.Int64
	defer r.show(func() string {
		return fmt.Sprintf("%d of %d are back, %d attempts failed", back.Load(), len(r.peers), failed.Load())
	})()
	m, err := r.measure()
	if err != nil {
		return err
	}
	for _, p := range r.peers {
		p.cutting.Store(true)
		p.link.cut()
	}
	for _, p := range r.peers {
		<-p.over
	}
	wasCut := time.Now()
	within, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	var returning sync.WaitGroup
	for _, p := range r.peers {
		returning.Go(func() {
			n, ok := r.comeBack(within, p, s.Jitter)
			failed.Add(n)
			if ok {
				back.Add(1)
				r.latency.add(p.index, time.Since(wasCut))
			}
		})
	}
	returning.Wait()
	r.result.BackSeconds = time.Since(wasCut).Seconds()
	m.took()
	if err := m.end(0); err != nil {
		return err
	}
	r.result.Failed = failed.Load()
	if n := back.Load(); n > 0 {
		r.result.CPUPerConnection = r.result.CPUSeconds * 1e6 / float64(n)
	}
	r.cut.Add(int64(len(r.peers)) - back.Load())
	r.present(ctx)
	return r.finish()
}

// comeBack connects p again, and reports how many attempts failed.
func (r *run) comeBack(ctx context.Context, p *peer, jitter time.Duration) (failed int64, ok bool) {
	pause := jitter
	for {
		if pause > 0 && !wait(ctx, rand.N(pause)) {
			return failed, false
		}
		l, err := r.dial(ctx, p)
		if err == nil {
			p.start(l)
			return failed, true
		}
		if ctx.Err() != nil {
			return failed, false
		}
		failed++
		pause = min(max(2*pause, 200*time.Millisecond), 5*time.Second)
	}
}
