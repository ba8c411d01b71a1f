package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
)

// waker calls a webhook when somebody waits for a device that is offline, so that a
// gateway can wake it. It never holds up the room: what does not fit is logged, and
// what comes to its turn when nobody waits any more. Who calls a device again and
// again wakes it once a second, and fills no log.
type waker struct {
	url     string
	hold    time.Duration // how long somebody waits
	log     *slog.Logger
	client  *http.Client
	calls   chan caught
	ending  context.CancelFunc
	workers sync.WaitGroup
	seldom  bridge.Seldom // lines in the log

	mu     sync.Mutex // guards what follows
	lately map[wakeCall]time.Time
}

// What one caller may cost the gateway.
const (
	wakeEvery = time.Second // a device is woken for it
	mostWoken = 1000        // calls that are remembered; then those go that were a while ago
)

// postsAtOnce is how many calls of the webhook may be under way: each may take two
// seconds, which others should not wait for.
const postsAtOnce = 8

// caught is a call that waits to be made.
type caught struct {
	wakeCall
	at time.Time
}

// wakeCall is the body of the webhook.
type wakeCall struct {
	Room    string `json:"room"`
	Peer    string `json:"peer"`
	For     string `json:"for"`
	Session string `json:"session"`
}

// checkWakeURL says what is wrong with a URL for the webhook.
func checkWakeURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("--wake-url must be an http or https URL") // which may have a key in it: it is not shown
	}
	return nil
}

func newWaker(url string, hold time.Duration, log *slog.Logger) *waker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &waker{
		url: url, hold: hold, log: log, ending: cancel, calls: make(chan caught, 256), lately: make(map[wakeCall]time.Time),
		client: &http.Client{
			Timeout:       2 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	for range postsAtOnce {
		w.workers.Go(func() { w.run(ctx) })
	}
	return w
}

// wake is a broker.Config.Wake.
func (w *waker) wake(room, peer, from, session string) {
	now := time.Now()
	if !w.due(wakeCall{Room: room, Peer: peer, For: from}, now) {
		return
	}
	select {
	case w.calls <- caught{wakeCall{room, peer, from, session}, now}:
	default:
		w.warn("wake webhook is too slow, a call is left out", "room", room, "peer", peer, "session", session)
	}
}

// due reports whether the device was not woken for the same caller just now, in
// another session.
func (w *waker) due(call wakeCall, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, ok := w.lately[call]; ok && now.Sub(last) < wakeEvery {
		return false
	}
	if len(w.lately) >= mostWoken {
		maps.DeleteFunc(w.lately, func(_ wakeCall, last time.Time) bool { return now.Sub(last) >= wakeEvery })
	}
	if len(w.lately) < mostWoken {
		w.lately[call] = now
	}
	return true
}

func (w *waker) warn(text string, about ...any) {
	w.seldom.Log(w.log, slog.LevelWarn, text, about...)
}

func (w *waker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.client.CloseIdleConnections()
			return
		case call := <-w.calls:
			if waited := time.Since(call.at); waited > w.hold {
				w.warn("wake webhook is too slow, a call is left out: nobody waits any more", "room", call.Room, "peer", call.Peer,
					"session", call.Session, "after", waited.Round(time.Millisecond))
			} else if err := w.post(ctx, call.wakeCall); err != nil {
				w.warn("wake webhook failed", "room", call.Room, "peer", call.Peer, "session", call.Session, "error", err)
			}
		}
	}
}

func (w *waker) post(ctx context.Context, call wakeCall) error {
	body, err := json.Marshal(call)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return cause(err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := w.client.Do(request)
	if err != nil {
		return cause(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s", answer.Status)
	}
	return nil
}

func (w *waker) close() {
	w.ending()
	w.workers.Wait()
}
