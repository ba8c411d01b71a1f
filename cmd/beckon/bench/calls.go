package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// candidates is how many a side sends in a call.
const candidates = 4

// Calls is "beckon bench calls".
type Calls struct {
	Settings
	Viewer   []string      `help:"Doors of the viewers, where they are others." enum:"mqtt,mqttws,ws"`
	Camera   []string      `help:"Doors of the cameras, where they are others." enum:"mqtt,mqttws,ws"`
	Pairs    int           `help:"Pairs, of a viewer and a camera." default:"50"`
	Rooms    int           `help:"Rooms to spread them over. 0: one for each pair." default:"0"`
	Rate     float64       `help:"Calls a second, of all pairs. 0: flat out, each pair begins the next when one is done." default:"0"`
	Size     int           `help:"Bytes of the SDP in an offer and an answer." default:"2048"`
	Duration time.Duration `help:"How long to measure." default:"10s"`
	Warmup   time.Duration `help:"How long to call before that." default:"1s"`
}

// Help says what stands in no flag.
func (*Calls) Help() string {
	return `With --door ws,mqtt every viewer is at ws and every camera at mqtt, since connections take the doors in turn, a viewer's before its camera's; --viewer ws --camera mqtt says the same.

Latency is from offer to answer, as the viewer sees it. Under --rate a call that is due while its pair is busy waits for it, and its latency counts from when it was due.`
}

// Validate is for kong, and reports every mistake.
func (c *Calls) Validate() error {
	wrong := []error{c.check(), positive("pairs", c.Pairs), notNegative("rooms", c.Rooms), notNegative("size", c.Size), notNegative("warmup", c.Warmup)}
	if c.Duration <= 0 {
		wrong = append(wrong, errors.New("--duration is not positive"))
	}
	if c.Rate < 0 {
		wrong = append(wrong, errors.New("--rate is negative"))
	}
	return errors.Join(wrong...)
}

// pair is a viewer that calls a camera, one call after another.
type pair struct {
	calls          *calling
	index          int
	viewer, camera *peer

	mu      sync.Mutex      // guards what follows
	call    uint32          // the newest
	busy    bool            // it is going on
	came    int             // of answer and candidates
	began   time.Duration   // or was due
	tried   time.Duration   // when the offer was sent
	waiting []time.Duration // when the next ones were due, under --rate
}

// calling is a run of calls.
type calling struct {
	*run
	rate    float64
	pairs   []*pair
	on      atomic.Bool // new calls begin
	counted atomic.Bool // warm-up is over
	done    atomic.Int64
	failed  atomic.Int64
}

// Run runs it and shows the result.
func (c *Calls) Run(program Program) error {
	ctx, stop := interruptible()
	defer stop()
	r, err := newRun("calls", &c.Settings, program, c.Size)
	if err != nil {
		return err
	}
	defer r.leave()
	k := &calling{run: r, rate: c.Rate}
	k.meet(c)
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.show(func() string {
		return fmt.Sprintf("%d calls, %d failed", k.done.Load(), k.failed.Load())
	})()
	return k.measured(ctx, c)
}

// meet makes the pairs.
func (k *calling) meet(c *Calls) {
	viewers, cameras := c.Viewer, c.Camera
	turn := func(i, side int, own []string) ([]string, int) {
		if len(own) > 0 {
			return own, i
		}
		return c.Door, 2*i + side
	}
	if len(viewers) > 0 || len(cameras) > 0 {
		k.result.Doors, k.result.Cameras = viewers, cameras
		if len(viewers) == 0 {
			k.result.Doors = c.Door
		}
		if len(cameras) == 0 {
			k.result.Cameras = c.Door
		}
	}
	rooms := c.Rooms
	if rooms == 0 {
		rooms = c.Pairs
	}
	for i := range c.Pairs {
		p := &pair{calls: k, index: i}
		doors, at := turn(i, 0, viewers)
		p.viewer = k.add('v', i, i%rooms, doors, at)
		doors, at = turn(i, 1, cameras)
		p.camera = k.add('c', i, i%rooms, doors, at)
		p.viewer.hear, p.camera.hear = p.viewerHears, p.cameraHears
		k.pairs = append(k.pairs, p)
	}
}

func (k *calling) measured(ctx context.Context, c *Calls) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.on.Store(true)
	var driving sync.WaitGroup
	driving.Go(func() { k.drive(ctx) })
	wait(ctx, c.Warmup)
	k.counted.Store(true)
	before := k.done.Load()
	m, err := k.measure()
	if err != nil {
		return err
	}
	wait(ctx, c.Duration)
	m.took()
	done := k.done.Load() - before
	k.on.Store(false)
	cancel()
	driving.Wait()
	poll(context.Background(), k.Timeout, func() bool {
		for _, p := range k.pairs {
			if p.isBusy() {
				return false
			}
		}
		return true
	})
	k.drain(1)
	if err := m.end(1); err != nil {
		return err
	}
	k.result.Calls, k.result.Failed = done, k.failed.Load()
	k.result.CallsPerSecond = float64(done) / k.result.Seconds
	return k.finish()
}

// drive begins the calls, or under --rate each when it is due, and gives up those
// that take too long.
func (k *calling) drive(ctx context.Context) {
	const look = 100 * time.Millisecond
	if k.rate == 0 {
		for _, p := range k.pairs {
			p.begin(k.now())
		}
		for wait(ctx, look) {
			k.giveUp()
		}
		return
	}
	looked, began := k.now(), k.now()
	for n := 0; ; n++ {
		due := began + time.Duration(float64(n)/k.rate*float64(time.Second))
		for ahead := due - k.now(); ahead > 0; ahead = due - k.now() {
			if !wait(ctx, min(ahead, look)) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		k.pairs[n%len(k.pairs)].begin(due)
		if k.now() > looked+look {
			looked = k.now()
			k.giveUp()
		}
	}
}

func (k *calling) giveUp() {
	for _, p := range k.pairs {
		p.giveUp(k.now() - k.Timeout)
	}
}

func (p *pair) isBusy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy
}

// begin begins a call, or lets it wait for the one that is going on.
func (p *pair) begin(due time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		p.waiting = append(p.waiting, due)
		return
	}
	p.offer(p.calls.now())
}

// offer sends what begins a call. It is called with the lock.
func (p *pair) offer(began time.Duration) {
	p.call++
	p.busy, p.came = true, 0
	p.began, p.tried = began, p.calls.now()
	p.viewer.say(p.camera.name, offer, p.call)
	for range candidates {
		p.viewer.say(p.camera.name, candidate, p.call)
	}
}

// cameraHears answers an offer.
func (p *pair) cameraHears(m mark) {
	if m.kind != offer {
		return
	}
	p.camera.say(p.viewer.name, answer, m.call)
	for range candidates {
		p.camera.say(p.viewer.name, candidate, m.call)
	}
}

// viewerHears notes the answer, and ends the call when all has come.
func (p *pair) viewerHears(m mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.call != p.call || !p.busy {
		return // given up
	}
	if m.kind == answer && p.calls.counted.Load() {
		p.calls.latency.add(p.index, p.calls.now()-p.began)
	}
	if p.came++; p.came < 1+candidates {
		return
	}
	p.calls.done.Add(1)
	p.over()
}

// over ends a call, and begins the next. It is called with the lock.
func (p *pair) over() {
	p.busy = false
	p.viewer.say(p.camera.name, bye, p.call)
	switch {
	case !p.calls.on.Load():
	case len(p.waiting) > 0:
		due := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.offer(due)
	case p.calls.rate == 0:
		p.offer(p.calls.now())
	}
}

// giveUp ends a call that was begun before then.
func (p *pair) giveUp(then time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy && p.tried < then {
		p.calls.failed.Add(1)
		p.over()
	}
}
