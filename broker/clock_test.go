package broker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// wallClock is a clock that a test can set, beside the one that cannot be set.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) Now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load()))
}

// set sets it, and waits until that must have been noticed.
func (c *wallClock) set(ahead time.Duration) {
	c.ahead.Store(int64(ahead))
	time.Sleep(lookAtClock + time.Millisecond)
	synctest.Wait()
}

// watched is a broker that watches c until the test ends.
func (c *wallClock) watched(t *testing.T, config Config) *Broker {
	config.Now = c.Now
	b := newBroker(t, config)
	ctx, stop := context.WithCancel(t.Context())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		b.WatchClock(ctx)
	}()
	synctest.Wait() // until it looks
	t.Cleanup(func() { stop(); <-watching })
	return b
}

func (c *wallClock) identity(name string, ends time.Duration) topics.Identity {
	id := peerOf(name, "garage")
	if ends > 0 {
		id.Expires = c.Now().Add(ends)
	}
	return id
}

const years = 365 * 24 * time.Hour

func TestClockSetForwardEndsTheConnectionsWhoseCredentialsThatEnds(t *testing.T) {
	threat.Row(t, 32, 0)
	synctest.Test(t, func(t *testing.T) {
		var c wallClock
		b := c.watched(t, Config{})
		endless := b.open(t, c.identity("endless", 0)).join("garage")
		long := b.open(t, c.identity("long", 20*years)).join("garage")
		short := b.open(t, c.identity("short", 30*time.Minute)).join("garage")
		for _, p := range []*inProc{endless, long, short} {
			p.types()
		}
		c.set(time.Hour)
		short.expect("unauthorized unauthorized")
		time.Sleep(b.Grace)
		synctest.Wait()
		long.expect("-short")
		c.set(10 * years)
		c.set(0)
		time.Sleep(time.Hour)
		synctest.Wait()
		long.expect("")
		endless.expect("-short")
	})
}

func TestClockSetBackEndsNoCredentialsBeforeTheirTime(t *testing.T) {
	threat.Row(t, 32, 0)
	synctest.Test(t, func(t *testing.T) {
		var c wallClock
		b := c.watched(t, Config{})
		alice := b.open(t, c.identity("alice", 10*time.Minute)).join("garage")
		alice.types()
		c.set(-time.Hour)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		alice.expect("")
		c.set(0) // and right again
		alice.expect("unauthorized unauthorized")
	})
}

// Nobody looks between the setting of the clock and the end of the credentials.
func TestClockSetBackUnnoticedEndsNoCredentialsBeforeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c wallClock
		b := newBroker(t, Config{Now: c.Now})
		alice := b.open(t, c.identity("alice", 10*time.Minute)).join("garage")
		alice.types()
		c.set(-5 * time.Minute)
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		alice.expect("")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		alice.expect("unauthorized unauthorized")
	})
}

func TestClockThatIsSetInSmallStepsIsNoticedWhenTheyAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c wallClock
		b := c.watched(t, Config{})
		alice := b.open(t, c.identity("alice", time.Minute)).join("garage")
		alice.types()
		for i := range 40 {
			c.set(time.Duration(i) * 900 * time.Millisecond)
		}
		alice.expect("unauthorized unauthorized") // 40 s and 35 s
	})
}

func TestClockThatWasSetHasICEServersToldAnew(t *testing.T) {
	threat.Row(t, 26, 0)
	synctest.Test(t, func(t *testing.T) {
		var c wallClock
		b := c.watched(t, Config{ICEServers: func(id topics.Identity) ([]topics.ICEServer, time.Duration) {
			if id.Name == "bob" {
				return nil, 0
			}
			return []topics.ICEServer{{URLs: []string{"turn:turn.example"}}}, 10 * time.Minute
		}})
		bob := b.open(t, c.identity("bob", 0)).join("garage")
		alice := b.open(t, c.identity("alice", 0)).join("garage")
		bob.types()
		alice.types()
		for _, ahead := range []time.Duration{time.Hour, -10 * years, 0} {
			c.set(ahead)
			alice.expect("ice")
			bob.expect("")
		}
		time.Sleep(7 * time.Minute)
		synctest.Wait()
		alice.expect("")
		time.Sleep(time.Minute)
		synctest.Wait()
		alice.expect("ice") // at three quarters, as always
	})
}
