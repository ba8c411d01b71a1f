package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Fanout is "beckon bench fanout".
type Fanout struct {
	Settings
	Sender    []string      `help:"Door of the sender, where it is another." enum:"mqtt,mqttws,ws"`
	Receivers int           `help:"Peers that listen." default:"200"`
	Size      int           `help:"Bytes of data in a message." default:"200"`
	Rate      float64       `help:"Messages a second. 0: flat out, with --window on their way." default:"0"`
	Window    int           `help:"How many messages may be on their way, flat out." default:"16"`
	Duration  time.Duration `help:"How long to measure." default:"10s"`
	Warmup    time.Duration `help:"How long to speak before that." default:"1s"`
}

// Validate is for kong, and reports every mistake.
func (f *Fanout) Validate() error {
	wrong := []error{f.check(), positive("receivers", f.Receivers), positive("window", f.Window), notNegative("size", f.Size), notNegative("warmup", f.Warmup)}
	if f.Duration <= 0 {
		wrong = append(wrong, errors.New("--duration is not positive"))
	}
	if f.Rate < 0 {
		wrong = append(wrong, errors.New("--rate is negative"))
	}
	if slices.Contains(f.Door, doorPeerJS) {
		wrong = append(wrong, errors.New("--door peerjs: PeerJS has no way to speak to many"))
	}
	if len(f.Sender) > 1 {
		wrong = append(wrong, errors.New("--sender takes one door: there is one sender"))
	}
	return errors.Join(wrong...)
}

// speech is a run of fanout.
type speech struct {
	*run
	sender    *peer
	receivers int64
	window    int64
	rate      float64
	counted   atomic.Bool   // warm-up is over
	got       atomic.Int64  // deliveries
	some      chan struct{} // there were more
}

// Run runs it and shows the result.
func (f *Fanout) Run(program Program) error {
	ctx, stop := interruptible()
	defer stop()
	r, err := newRun("fanout", &f.Settings, program, f.Size)
	if err != nil {
		return err
	}
	defer r.leave()
	s := &speech{run: r, receivers: int64(f.Receivers), window: int64(f.Window), rate: f.Rate, some: make(chan struct{}, 1)}
	doors := f.Door
	if len(f.Sender) > 0 {
		doors = f.Sender
	}
	s.sender = r.add('s', 0, 0, doors, 0)
	for i := range f.Receivers {
		p := r.add('l', i, 0, f.Door, i)
		p.listens = true
		p.hear = func(m mark) { s.heard(p, m) }
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.show(func() string {
		return fmt.Sprintf("%d messages, %d deliveries", s.sender.sent.Load(), s.got.Load())
	})()
	return s.measured(ctx, f)
}

func (s *speech) measured(ctx context.Context, f *Fanout) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var speaking sync.WaitGroup
	speaking.Go(func() { s.speak(ctx) })
	wait(ctx, f.Warmup)
	s.counted.Store(true)
	m, err := s.measure()
	if err != nil {
		return err
	}
	wait(ctx, f.Duration)
	m.took()
	cancel()
	speaking.Wait()
	s.drain(s.receivers)
	if err := m.end(s.receivers); err != nil {
		return err
	}
	return s.finish()
}

func (s *speech) heard(p *peer, m mark) {
	if s.counted.Load() {
		s.latency.add(p.index, s.now()-m.sent)
	}
	if s.got.Add(1)%s.receivers == 0 {
		select {
		case s.some <- struct{}{}:
		default:
		}
	}
}

// speak says one message after another, until ctx ends.
func (s *speech) speak(ctx context.Context) {
	began := s.now()
	var forgiven int64 // deliveries that will not come any more
	for n := int64(0); ctx.Err() == nil; n++ {
		if s.rate > 0 {
			due := began + time.Duration(float64(n)/s.rate*float64(time.Second))
			if !wait(ctx, due-s.now()) {
				return
			}
		}
		for s.rate == 0 && ctx.Err() == nil {
			missing := n*s.receivers - s.got.Load() - forgiven
			if missing <= (s.window-1)*s.receivers {
				break
			}
			if !s.more(ctx) {
				forgiven += missing
			}
		}
		if ctx.Err() == nil {
			s.sender.say("", msg, 0)
		}
	}
}

// more waits for deliveries. It reports false if there were none in the time after
// which they are lost.
func (s *speech) more(ctx context.Context) bool {
	before := s.got.Load()
	timer := time.NewTimer(s.Timeout)
	defer timer.Stop()
	// The last of a message may have been lost, so look now and then.
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-s.some:
			return true
		case <-ticker.C:
			if s.got.Load() != before {
				return true
			}
		case <-timer.C:
			return s.got.Load() != before
		case <-ctx.Done():
			return true
		}
	}
}
