package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// seldomLines is how many a minute there may be.
const seldomLines = 5

// Seldom bounds the lines in a log that strangers can cause, who need no account to
// cause them without end: five a minute are written, and the first after others were
// left out says how many. The zero value is ready.
type Seldom struct {
	mu    sync.Mutex
	until time.Time // end of the minute
	lines int       // in it
	left  int       // out, since the last line
}

// Log writes a line, if it is time for one.
func (s *Seldom) Log(log *slog.Logger, level slog.Level, text string, about ...any) {
	left, ok := s.take(time.Now())
	if !ok {
		return
	}
	if left > 0 {
		about = append(about, "left_out", left)
	}
	log.Log(context.Background(), level, text, about...)
}

func (s *Seldom) take(now time.Time) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.until) {
		s.until, s.lines = now.Add(time.Minute), 0
	}
	if s.lines >= seldomLines {
		s.left++
		return 0, false
	}
	s.lines++
	left, s.left = s.left, 0
	return left, true
}
