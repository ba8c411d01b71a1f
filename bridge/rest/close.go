package rest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Drain opens no more streams, tells those that are open that the server goes, and
// ends each within a time of its own. It returns when all have ended, or ctx is
// done; then it ends the rest, too, and returns the reason.
func (h *Handler) Drain(ctx context.Context) error {
	open, spread := h.stop(bridge.DrainTime(ctx))
	for i, s := range open {
		select {
		case s.goaway <- spread.Of(i):
		default: // it was told before
		}
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		h.running.Wait()
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		h.kill()
		<-gone
		return ctx.Err()
	}
}

// Close ends all streams, opens no more, and waits until they have ended: for as
// long as a write may take, at most. It is idempotent.
func (h *Handler) Close() {
	h.stop(0)
	h.kill()
	h.running.Wait()
	h.bridge.Close()
}

var errGoingAway = topics.Errorf(topics.Unavailable, "the server is going away")

// later answers who wants a stream while the server goes. An EventSource, which takes
// any status but 200 for the end (WHATWG HTML, 9.2.2), gets a stream that tells it
// when to come back, and no more.
func (h *Handler) later(w http.ResponseWriter, r *http.Request) error {
	if !strings.Contains(r.Header.Get("Accept"), eventStream) {
		return errGoingAway
	}
	h.mu.Lock()
	window, left := h.window, max(time.Until(h.over), 0)
	h.mu.Unlock()
	header := w.Header()
	header.Set("Content-Type", eventStream)
	header.Set("Connection", "close")                                                              // where others serve this address it may lead to one
	_, _ = w.Write(append(retryIn(left+time.Second, max(window, 2*time.Second)), goaway(left)...)) // the client is gone: nobody to tell
	return nil
}

func (h *Handler) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closing
}

// stop opens no more streams, and returns those that are open, and when they end,
// within that time. Who comes from then on is told of it.
func (h *Handler) stop(most time.Duration) (open []*stream, spread bridge.Spread) {
	h.mu.Lock()
	defer h.mu.Unlock()
	spread = bridge.NewSpread(most, len(h.streams))
	h.closing, h.window, h.over = true, spread.Window, time.Now().Add(spread.Window)
	open = make([]*stream, 0, len(h.streams))
	for s := range h.streams {
		open = append(open, s)
	}
	return open, spread
}

// A session that was taken over is known for a while, so that its client, which
// comes back by itself, does not take over in turn.
const (
	replacedFor = time.Minute
	maxReplaced = 10_000
)

func (h *Handler) replace(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if len(h.replaced) >= maxReplaced {
		for old, until := range h.replaced {
			if now.After(until) || len(h.replaced) >= maxReplaced { // any, at the worst
				delete(h.replaced, old)
			}
		}
	}
	h.replaced[key] = now.Add(replacedFor)
}

func (h *Handler) isReplaced(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, ok := h.replaced[key]
	if ok && time.Now().After(until) {
		delete(h.replaced, key)
		return false
	}
	return ok
}
