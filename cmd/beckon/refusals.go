package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// refusals tell the log who was not let in, at every door, so that it is seen who
// guesses. A stranger can cause them without end, but not fill the disk: some lines
// a minute are of one address, and some of all together. What is left out, of
// whatever address, is counted, and the next line says how many that were.
type refusals struct {
	log *slog.Logger
	all *rate.Limiter // of lines

	mu        sync.Mutex // guards what follows
	byAddress map[netip.Prefix]*turnedAway
	left      int // refusals without a line, since the last line
}

// turnedAway is what became of an address.
type turnedAway struct {
	until time.Time // of its minute
	lines int       // in it
}

const (
	linesOfAddress = 5    // a minute
	linesAtOnce    = 60   // of all addresses; then one a second
	mostRefused    = 1000 // addresses that are counted
)

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, all: rate.NewLimiter(1, linesAtOnce), byAddress: make(map[netip.Prefix]*turnedAway)}
}

// of is authenticate at a door, with a log of whom it refuses.
func (r *refusals) of(via string, authenticate bridge.Authenticate) bridge.Authenticate {
	return func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
		id, err := authenticate(ctx, c)
		r.note(via, c, err)
		return id, err
	}
}

// note logs an error that is for who shows c.
func (r *refusals) note(via string, c topics.Credentials, err error) {
	if err == nil {
		return
	}
	left, line := r.take(c.Remote, time.Now())
	if !line {
		return
	}
	about := []any{"via", via, "remote", c.Remote, "name", claimed(c), "code", int(topics.AsError(err).Code), "why", err.Error()}
	if left > 0 {
		about = append(about, "left_out", left)
	}
	r.log.Warn("login refused", about...)
}

// claimed is the name that c claims, for the log: "" for none. What cannot be a name
// may be a password that was typed in the wrong place.
func claimed(c topics.Credentials) string {
	name := cmp.Or(c.Username, c.Name)
	if name == "" || topics.ValidName(name) && !strings.HasPrefix(name, "beckon_") { // an API key
		return name
	}
	return "invalid"
}

// take counts a refusal, and says whether there is a line for it, and how many had
// none since the last one.
func (r *refusals) take(from netip.Addr, now time.Time) (left int, line bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.find(network(from), now)
	if !now.Before(one.until) {
		one.until, one.lines = now.Add(time.Minute), 0
	}
	if one.lines >= linesOfAddress || !r.all.AllowN(now, 1) {
		r.left++
		return 0, false
	}
	one.lines++
	left, r.left = r.left, 0
	return left, true
}

// find returns what became of an address. When too many are known, those go whose
// minute is over; if that is not enough, the rest counts as one.
func (r *refusals) find(from netip.Prefix, now time.Time) *turnedAway {
	if one := r.byAddress[from]; one != nil {
		return one
	}
	if len(r.byAddress) >= mostRefused {
		for address, one := range r.byAddress {
			if now.After(one.until) {
				delete(r.byAddress, address)
			}
		}
	}
	if len(r.byAddress) >= mostRefused {
		from = netip.Prefix{}
	}
	one := r.byAddress[from]
	if one == nil {
		one = new(turnedAway)
		r.byAddress[from] = one
	}
	return one
}

// network is what counts as one address: of IPv6 a /64, which one host has.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // of no address: none
	return p
}
