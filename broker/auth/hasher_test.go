package auth

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// rested returns when nobody hashes in the lane, and no slot rests.
func (l *lane) rested() {
	for range cap(l.slots) {
		l.slots <- struct{}{}
	}
	for range cap(l.slots) {
		<-l.slots
	}
}

// trying is an attempt to log in that nothing holds up.
func trying(known bool) *attempt {
	return &attempt{t: newThrottle(-1, time.Now), known: known}
}

func TestFewHashAtOnceFewWaitTheRestAreToldToComeBack(t *testing.T) {
	threat.Row(t, 29, 0)
	p := newHasher(nil)
	l := &p.strangers
	slots := max(1, runtime.NumCPU()/2)
	if cap(l.slots) != slots || cap(p.known.slots) != slots {
		t.Fatalf("%d and %d hash at once", cap(l.slots), cap(p.known.slots))
	}
	h := newHash(password, cost{64, 1, 1})
	stranger := trying(false)
	for range slots {
		l.slots <- struct{}{} // all are at work
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	for range int(l.most) {
		all.Go(func() {
			if _, err := p.verify(ctx, h, password, stranger); topics.AsError(err).Code != topics.Unavailable {
				t.Errorf("who gave up got %v", err)
			}
		})
	}
	for l.pending.Load() < l.most {
		runtime.Gosched()
	}
	if _, err := p.verify(ctx, h, password, stranger); topics.AsError(err).Code != topics.Unavailable {
		t.Errorf("who found the queue full got %v", err)
	}
	if p.hashed.Load() > 0 {
		t.Error("something was hashed")
	}
	if ok, err := p.verify(ctx, h, password, trying(true)); !ok || err != nil {
		t.Errorf("who is known got %v, %v behind strangers", ok, err)
	}
	cancel()
	all.Wait()
	for range slots {
		<-l.slots
	}
	if ok, err := p.verify(context.Background(), h, password, stranger); !ok || err != nil || l.pending.Load() != 0 {
		t.Errorf("afterwards: %v, %v, %d wait", ok, err, l.pending.Load())
	}
}

func TestTurnThatDoesNotComeInTimeIsSaid(t *testing.T) {
	threat.Row(t, 29, 0)
	synctest.Test(t, func(t *testing.T) {
		p := newHasher(nil)
		for range cap(p.strangers.slots) {
			p.strangers.slots <- struct{}{}
		}
		began := time.Now()
		_, err := p.verify(context.Background(), newHash(password, cost{64, 1, 1}), password, trying(false))
		if took := time.Since(began); topics.AsError(err).Code != topics.Unavailable || took != longestWait {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestCameraThatComesBackDoesNotWaitBehindStrangers(t *testing.T) {
	threat.Row(t, 29, 0)
	a, _ := throttled(t)
	a.lets(from("203.0.113.1", "cam1", password))
	for range cap(a.hasher.strangers.slots) {
		a.hasher.strangers.slots <- struct{}{}
	}
	a.lets(from("203.0.113.1", "cam1", password))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	id, err := a.Authenticate(ctx, from("203.0.113.2", "cam1", password))
	refused(t, id, err, topics.Unavailable, "the turn did not come")
}

func TestSlotRestsAfterAWrongPasswordOfAStrangerOnly(t *testing.T) {
	threat.Row(t, 29, 0)
	p := newHasher(nil)
	h := newHash(password, defaultCost) // which takes so long that its rest is seen
	for _, c := range []struct {
		password string
		known    bool
		rests    int
	}{{password, false, 0}, {password, true, 0}, {"wrong", true, 0}, {"wrong", false, 1}} {
		if _, err := p.verify(context.Background(), h, c.password, trying(c.known)); err != nil {
			t.Fatal(err)
		}
		if n := len(p.strangers.slots) + len(p.known.slots); n != c.rests {
			t.Errorf("after %q, known %v: %d slots rest", c.password, c.known, n)
		}
		p.strangers.rested()
	}
}
