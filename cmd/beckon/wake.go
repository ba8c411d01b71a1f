package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// waker calls a webhook when somebody waits for a device that is offline, so that a
// gateway can wake it. It never holds up the room: what does not fit is logged, and
// what comes to its turn when nobody waits any more.
type waker struct {
	url     string
	hold    time.Duration // how long somebody waits
	log     *slog.Logger
	client  *http.Client
	calls   chan caught
	ending  context.CancelFunc
	workers sync.WaitGroup
}

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
		url: url, hold: hold, log: log, ending: cancel, calls: make(chan caught, 256),
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
	select {
	case w.calls <- caught{wakeCall{room, peer, from, session}, time.Now()}:
	default:
		w.log.Warn("wake webhook is too slow, a call is left out", "room", room, "peer", peer, "session", session)
	}
}

func (w *waker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.client.CloseIdleConnections()
			return
		case call := <-w.calls:
			if waited := time.Since(call.at); waited > w.hold {
				w.log.Warn("wake webhook is too slow, a call is left out: nobody waits any more", "room", call.Room, "peer", call.Peer,
					"session", call.Session, "after", waited.Round(time.Millisecond))
			} else if err := w.post(ctx, call.wakeCall); err != nil {
				w.log.Warn("wake webhook failed", "room", call.Room, "peer", call.Peer, "session", call.Session, "error", err)
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
