package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// route is a path with its one method. Its handler has checked the names in the
// path, and returns what the client is told went wrong. It has until the context ends
// to answer.
type route struct {
	path   string
	method string
	head   bool // HEAD is answered, too
	h      *Handler
	serve  func(context.Context, http.ResponseWriter, *http.Request) error
}

func (h *Handler) routes() []route {
	return []route{
		{"/api/v1/rooms", http.MethodGet, true, h, h.rooms},
		{"/api/v1/rooms/{room}/peers", http.MethodGet, true, h, h.peers},
		{"/api/v1/rooms/{room}/peers/{me}/events", http.MethodGet, false, h, h.events},
		{"/api/v1/rooms/{room}/peers/{me}/messages", http.MethodPost, false, h, h.message},
	}
}

func (t route) allow() string {
	if t.head {
		return "GET, HEAD, OPTIONS"
	}
	return "OPTIONS, " + t.method
}

func (t route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := t.h.deadline(r)
	defer cancel()
	err := checkNames(r)
	switch {
	case err != nil:
	case r.Method == http.MethodOptions:
		preflight(w, t)
		return
	case r.Method == t.method, t.head && r.Method == http.MethodHead:
		err = t.serve(ctx, w, r)
	default:
		w.Header().Set("Allow", t.allow())
		err = bridge.Refused(http.StatusMethodNotAllowed, "the method is not for this path, which takes %s", t.allow())
	}
	if err != nil {
		bridge.Refuse(w, r, t.h.cfg.Logger, t.h.late(err))
	}
}

// deadline is the time that a request has, which ends with the handler.
func (h *Handler) deadline(r *http.Request) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Deadline)
	stop := context.AfterFunc(h.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// late is err of a request, in the words of what ended its time, if that did.
func (h *Handler) late(err error) error {
	switch {
	case h.life.Err() != nil:
		return errGoingAway
	case errors.Is(err, context.DeadlineExceeded):
		return topics.Errorf(topics.Timeout, "the answer was not there within %v", h.cfg.Deadline)
	}
	return err
}

// checkNames says what is wrong with the names in the path.
func checkNames(r *http.Request) error {
	for value, what := range map[string]string{"room": "room", "me": "peer"} {
		if name := r.PathValue(value); name != "" {
			if err := topics.CheckName(what, name); err != nil {
				return err
			}
		}
	}
	return nil
}
