package turn

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pion/logging"
)

// refusals logs requests that were refused. Anyone can make them, so at most a
// few a second are shown.
type refusals struct {
	log *slog.Logger

	mu      sync.Mutex // guards what is below
	second  int64
	shown   int
	skipped int
}

func (r *refusals) note(name, why string) {
	const most = 10 // a second
	r.mu.Lock()
	if now := time.Now().Unix(); now != r.second {
		r.second, r.shown = now, 0
	}
	if r.shown++; r.shown > most {
		r.skipped++
		r.mu.Unlock()
		return
	}
	skipped := r.skipped
	r.skipped = 0
	r.mu.Unlock()
	args := []any{"peer", name, "why", why}
	if skipped > 0 {
		args = append(args, "not_shown_before", skipped)
	}
	r.log.Info("relay refused", args...)
}

// pionLog is pion's log in ours. All of it is for debugging: strangers can make
// it say things, and it has addresses in it.
type pionLog struct{ log *slog.Logger }

func (p pionLog) NewLogger(string) logging.LeveledLogger { return p }

func (p pionLog) say(format string, args ...any) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("turn", "pion", fmt.Sprintf(format, args...))
	}
}

// The methods of logging.LeveledLogger. Trace is left out.
func (p pionLog) Trace(string)                      {}
func (p pionLog) Tracef(string, ...any)             {}
func (p pionLog) Debug(msg string)                  { p.say("%s", msg) }
func (p pionLog) Debugf(format string, args ...any) { p.say(format, args...) }
func (p pionLog) Info(msg string)                   { p.say("%s", msg) }
func (p pionLog) Infof(format string, args ...any)  { p.say(format, args...) }
func (p pionLog) Warn(msg string)                   { p.say("%s", msg) }
func (p pionLog) Warnf(format string, args ...any)  { p.say(format, args...) }
func (p pionLog) Error(msg string)                  { p.say("%s", msg) }
func (p pionLog) Errorf(format string, args ...any) { p.say(format, args...) }
