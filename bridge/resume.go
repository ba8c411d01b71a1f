package bridge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// A client whose connection was lost resumes its session with the key that "joined"
// gave it, and the number of frames that it has got: so it gets those it missed.

// wish is what a join says about resuming.
type wish struct {
	key  string // of the session to be resumed, "" for none
	long bool   // the client will resume this one: its peers wait longer for it
	seen uint64 // frames that the client has got
	said bool   // it said how many
}

// readWish reads "resume" and "seen": true says that the client knows how to
// resume, a text is the key.
func readWish(f *frame) (w wish, err error) {
	switch text := string(f.resume); {
	case f.resume == nil, text == "false":
	case text == "true":
		w.long = true
	default:
		if w.key, err = textOf("resume", f.resume); err != nil {
			return w, topics.Errorf(topics.BadRequest, `"resume" must be true, or the text of that name in the last "joined"`)
		}
		w.long = true
	}
	if f.seen != nil {
		w.said = true
		if w.seen, err = strconv.ParseUint(string(f.seen), 10, 63); err != nil {
			return w, topics.Errorf(topics.BadRequest, `"seen" must be a number: how many frames came`)
		}
	}
	return w, nil
}

// resume goes on with the session that the client lost the connection of. false
// says that there is none, or that not all of it was kept: the client joins anew, as
// whom it was found to be.
func (s *Session) resume(ctx context.Context, f *frame, w wish) (bool, error) {
	peer, token, err := who(f)
	if err != nil {
		return false, err
	}
	old := s.cfg.stays.find(w.key)
	if old == nil || peer != "" && peer != old.name {
		return false, nil
	}
	id, err := s.authenticate(ctx, cmp.Or(peer, old.name), token)
	if err != nil {
		return false, ending{err}
	}
	s.found = &id
	if id.Name != old.name || !old.claim() {
		return false, nil
	}
	resumed, err := s.adopt(old, id, f, w)
	if !resumed {
		old.close(false) // a new session takes over its peers
	}
	return resumed, err
}

// adopt has s go on with a stay that it has claimed. When it does not the caller
// closes the stay.
func (s *Session) adopt(old *stay, id topics.Identity, f *frame, w wish) (bool, error) {
	old.got(w)
	suspended := !old.unplug()
	if s.cfg.Renew != nil { // before what waited is told: it may be more than is granted by now
		if err := s.cfg.Renew(old.bus, id); err != nil {
			if suspended && old.bus.Resume() != nil {
				return false, nil // it ended meanwhile
			}
			return false, ending{err}
		}
	}
	if !old.mayRead() || suspended && old.bus.Resume() != nil {
		return false, nil
	}
	if !old.attach(s, f, w) {
		return false, nil
	}
	s.stay, s.shown, s.found = old, nil, nil
	f.id = nil // answered
	return true, nil
}

// Moved is why a connection ends whose client has resumed its session on another.
var Moved = topics.Errorf(topics.Replaced, "the session goes on on another connection")

// claim makes the stay the caller's, who attaches or closes it. Of those who would
// resume it at once one gets it.
func (s *stay) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.claimed {
		return false
	}
	s.claimed = true
	return true
}

// unplug takes the stay, which was claimed, from the connection that it has, if that
// is not known to be lost yet, and reports whether it had one.
func (s *stay) unplug() bool {
	s.mu.Lock()
	by := s.by
	s.mu.Unlock()
	if by == nil || !by.yield(s) {
		return false
	}
	by.stop(Moved)
	return true
}

// mayRead reports whether the client may still read all that it could in the rooms
// that it has: what it is told again was for who it was then.
func (s *stay) mayRead() bool {
	id := s.bus.Identity()
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.rooms, func(r room) bool {
		return slices.ContainsFunc(r.filters, func(text string) bool {
			f, err := s.cfg.Root.ParseFilter(text)
			return err != nil || !id.MaySubscribe(f)
		})
	})
}

// yield takes the stay from the connection, unless it has suspended or closed it,
// and reports whether it had it.
func (s *Session) yield(stay *stay) bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stay != stay {
		return false
	}
	s.stay, s.closed = nil, true
	return true
}

// resumedCost is more than the answer to who resumes takes of the queue.
const resumedCost = 1024

// attach gives the stay a connection, whose client is told what it missed.
func (s *stay) attach(next *Session, f *frame, w wish) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.said {
		w.seen = s.told.last - uint64(len(s.told.frames))
	}
	missed, ok := s.told.since(w.seen)
	if r := s.find(f.room); !ok || s.over || r == nil || r.joining != nil {
		return false
	}
	size := 0
	for _, frame := range missed[:max(len(missed)-1, 0)] {
		size += cost(frame)
	}
	if s.cfg.Queue > 0 && size > 0 && size+resumedCost >= s.cfg.Queue {
		return false // which would cut it off again, and again
	}
	s.told.seen(w.seen)
	s.told.taken = w.seen
	s.by, s.long, s.claimed = next, true, false
	s.base = w.seen - next.early - 1 // the answer has no number
	frames := append([]Frame{inOne(resumedFrame(f.id, f.room, s.name, s.key, w.seen, int(s.cfg.Ping.Seconds())))}, missed...)
	for _, frame := range frames {
		if err := next.out(frame); err != nil && !errors.Is(err, ErrEnding) {
			s.end(errTooSlow)
			break
		}
	}
	s.log(slog.LevelDebug, "resumed", f.room, "missed", len(missed))
	return true
}

// got is what the client says that it has, which is not given back to its senders
// when the stay is not resumed.
func (s *stay) got(w wish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.said {
		s.told.seen(w.seen)
	}
}

// seen is what [Session.Seen] says of by.
func (s *stay) seen(by *Session, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == by {
		s.told.seen(s.base + n)
	}
}

// taken is what [Session.Taken] says of by.
func (s *stay) taken(by *Session, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to := s.base + n; s.by == by && to <= s.told.last {
		s.told.taken = max(s.told.taken, to)
	}
}

// suspend is called when the connection was lost.
func (s *stay) suspend() {
	s.mu.Lock()
	var most time.Duration // the grace
	if s.long {
		most = max(cmp.Or(s.cfg.Resume, 30*time.Second), 0)
	}
	idle := s.over || len(s.rooms) == 0
	s.mu.Unlock()
	if idle {
		s.close(false)
		return
	}
	s.bus.Suspend(most)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by = nil
	if s.over { // there is no grace
		s.told.forget(len(s.told.frames))
	}
}

// Back gives back what the client may not have got.
func (s *stay) Back(room string) []topics.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := s.told.giveBack(room, s.name)
	if r := s.find(room); r != nil && r.joining != nil {
		back = append(back, r.joining.giveBack()...)
	}
	return back
}

// stays are the sessions that can be resumed, by their keys.
type stays struct {
	mu    sync.Mutex
	byKey map[string]*stay
}

func (all *stays) add(s *stay) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.byKey == nil {
		all.byKey = make(map[string]*stay)
	}
	all.byKey[s.key] = s
}

func (all *stays) remove(s *stay) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.byKey, s.key)
}

func (all *stays) find(key string) *stay {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.byKey[key]
}

// Close ends the sessions that have no connection. To be called when no more
// connections come.
func (c *Config) Close() {
	c.stays.mu.Lock()
	var left []*stay
	for _, s := range c.stays.byKey {
		left = append(left, s)
	}
	c.stays.mu.Unlock()
	for _, s := range left {
		s.close(false)
	}
}
