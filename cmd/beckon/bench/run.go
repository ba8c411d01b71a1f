package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// run is one run of a subcommand: its peers, and what is measured.
type run struct {
	*Settings
	program Program
	tag     string // in all names, so that no other run is in the way
	size    int    // of descriptions, or data
	buffer  int    // for reading, of each connection
	texts   texts
	server  *process // nil without --pid
	sign    func(name string) (string, error)
	began   time.Time
	peers   []*peer
	latency *latency
	faults  faults
	cut     atomic.Int64 // connections that the server, or the network, ended
	rest    func()       // ends what keep does; nil: it was never begun
	result  Result
}

func newRun(command string, s *Settings, program Program, size int) (*run, error) {
	r := &run{
		Settings: s, program: program, size: size, buffer: 4 << 10, texts: newTexts(size),
		tag: fmt.Sprintf("%06x", rand.Uint32N(1<<24)), began: time.Now(), latency: newLatency(),
		result: Result{Command: command, Doors: s.Door, QoS: int(s.QoS)},
	}
	if s.JWTKey != "" {
		sign, err := program.Signer(s.JWTKey)
		if err != nil {
			return nil, err
		}
		r.sign = func(name string) (string, error) { return sign(name, "bench-"+r.tag+"-*") }
	}
	if s.PID != 0 {
		var err error
		if r.server, err = newProcess(s.PID); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// now is the time since the run began.
func (r *run) now() time.Duration { return time.Since(r.began) }

// room is the name of a room of this run.
func (r *run) room(n int) string { return fmt.Sprintf("bench-%s-%d", r.tag, n) }

// add makes a peer, which takes one of doors in its turn.
func (r *run) add(role byte, n, room int, doors []string, turn int) *peer {
	p := &peer{
		run: r, index: len(r.peers), name: fmt.Sprintf("%c-%s-%d", role, r.tag, n),
		room: r.room(room), door: doors[turn%len(doors)],
	}
	r.peers = append(r.peers, p)
	return p
}

// dialers is how many connections are being made at once at most.
const dialers = 128

// connect connects all peers, and returns when what the server had to say about
// that has arrived. From then on, until leave, those that are connected are kept.
func (r *run) connect(ctx context.Context) error {
	if err := r.result.before(r); err != nil {
		return err
	}
	r.rest = r.keep()
	began := time.Now()
	pace := rate.NewLimiter(rate.Inf, 1)
	if r.ConnectRate > 0 {
		pace = rate.NewLimiter(rate.Limit(r.ConnectRate), 1)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var connected atomic.Int64
	defer r.show(func() string { return fmt.Sprintf("%d of %d connected", connected.Load(), len(r.peers)) })()
	var next atomic.Int64
	var dialing sync.WaitGroup
	for range min(dialers, len(r.peers)) {
		dialing.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(r.peers) || pace.Wait(ctx) != nil {
					return
				}
				l, err := r.persist(ctx, r.peers[i])
				if err != nil {
					fail(err)
					return
				}
				r.peers[i].start(l)
				connected.Add(1)
			}
		})
	}
	dialing.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.result.Connections = len(r.peers)
	r.result.ConnectSeconds = time.Since(began).Seconds()
	return r.result.connected(r)
}

// persist dials, and dials again where that may help: a server takes only so many
// connections at once that have not shown who they are.
func (r *run) persist(ctx context.Context, p *peer) (link, error) {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		l, err := r.dial(ctx, p)
		if _, hopeless := errors.AsType[refusal](err); err == nil || hopeless || attempt == attempts || ctx.Err() != nil {
			return l, err
		}
		if !wait(ctx, time.Duration(attempt)*100*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}

// wait waits, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// settle returns when every peer had an answer to a ping.
func (r *run) settle(ctx context.Context) error {
	silent := r.ping(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case silent > 0:
		return fmt.Errorf("%d of %d connections do not answer a ping within %v", silent, len(r.peers), r.Timeout)
	}
	return nil
}

// ping pings on every connection, and returns how many did not answer. It goes
// easy, since all of them at once is a load of its own.
func (r *run) ping(ctx context.Context) (silent int) {
	before := make([]int64, len(r.peers))
	pace := rate.NewLimiter(5000, 100)
	for i, p := range r.peers {
		if pace.Wait(ctx) != nil {
			return len(r.peers)
		}
		before[i] = p.pongs.Load()
		_ = p.link.ping()
	}
	poll(ctx, r.Timeout, func() bool {
		silent = 0
		for i, p := range r.peers {
			if p.pongs.Load() == before[i] {
				silent++
			}
		}
		return silent == 0
	})
	return silent
}

// poll looks for done, until it is or time is up.
func poll(ctx context.Context, limit time.Duration, done func() bool) bool {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	end := time.Now().Add(limit)
	for !done() {
		select {
		case <-ticker.C:
			if time.Now().After(end) {
				return done()
			}
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// show prints a line of progress each second, until the function that it returns
// is called.
func (r *run) show(progress func() string) (stop func()) {
	stopped, over := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(over)
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-second.C:
				if !r.Quiet {
					fmt.Fprintf(r.program.Stderr, "%4.0fs %s%s\n", time.Since(began).Seconds(), progress(), r.trouble())
				}
			case <-stopped:
				return
			}
		}
	}()
	return func() {
		close(stopped)
		<-over
	}
}

// trouble is what went wrong so far, for the progress.
func (r *run) trouble() (text string) {
	if n := r.cut.Load(); n > 0 {
		text += fmt.Sprintf(", %d connections lost", n)
	}
	if n := r.faults.count(); n > 0 {
		text += fmt.Sprintf(", %d errors", n)
	}
	return text
}

// keep pings on the MQTT connections that there are, each in half its keep-alive,
// until the function that it returns is called.
func (r *run) keep() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		const round = keepAlive / 2
		for turn := 0; wait(ctx, time.Second); turn++ {
			for i := turn % round; i < len(r.peers); i += round {
				if l := r.peers[i].kept.Load(); l != nil {
					_ = (*l).ping() // of a connection that has ended: others tell
				}
			}
		}
	}()
	return func() {
		cancel()
		<-over
	}
}

// lostConnection is told of a connection that ended by itself.
func (r *run) lostConnection(p *peer, why error) {
	if r.cut.Add(1) <= 3 {
		fmt.Fprintf(r.program.Stderr, "%s lost its connection by the door %s: %v\n", p.name, p.door, why)
	}
}

// totals are the sums over all peers.
type totals struct{ sent, got, doubled, disordered int64 }

func (r *run) totals() (t totals) {
	for _, p := range r.peers {
		t.sent += p.sent.Load()
		t.got += p.got.Load()
		t.doubled += p.doubled.Load()
		t.disordered += p.disordered.Load()
	}
	return t
}

// drain waits until everything that was sent has arrived, copies times, or nothing
// arrived for the time after which it is lost.
func (r *run) drain(copies int64) {
	for last := int64(-1); ; {
		t := r.totals()
		if t.got >= t.sent*copies || t.got == last {
			return
		}
		last = t.got
		poll(context.Background(), r.Timeout, func() bool {
			t := r.totals()
			return t.got >= t.sent*copies
		})
	}
}

// leave ends all connections.
func (r *run) leave() {
	if r.rest != nil {
		r.rest()
	}
	work := make(chan *peer)
	var leaving sync.WaitGroup
	for range min(16, len(r.peers)) {
		leaving.Go(func() {
			for p := range work {
				p.leave()
			}
		})
	}
	for _, p := range r.peers {
		work <- p
	}
	close(work)
	leaving.Wait()
}

// errLost is the end of a run that lost something.
var errLost = errors.New("something was lost")

// present counts connections that do not answer any more as lost, unless they are
// known to be.
func (r *run) present(ctx context.Context) {
	if silent := int64(r.ping(ctx)); ctx.Err() == nil && silent > r.cut.Load() {
		r.cut.Store(silent)
	}
}
