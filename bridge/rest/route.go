package rest

import (
	"errors"
	"net/http"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// route is a path with its one method. Its handler has checked the names in the
// path, and returns what the client is told went wrong.
type route struct {
	path   string
	method string
	head   bool // HEAD is answered, too
	h      *Handler
	serve  func(http.ResponseWriter, *http.Request) error
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
	err := checkNames(r)
	switch {
	case err != nil:
	case r.Method == http.MethodOptions:
		preflight(w, t)
		return
	case r.Method == t.method, t.head && r.Method == http.MethodHead:
		err = t.serve(w, r)
	default:
		w.Header().Set("Allow", t.allow())
		err = refused(http.StatusMethodNotAllowed, "the method is not for this path, which takes %s", t.allow())
	}
	if err != nil {
		t.h.refuse(w, r, err)
	}
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

// refusal is an error whose HTTP status says more than its code.
type refusal struct {
	why    *topics.Error
	status int
}

func (r refusal) Error() string { return r.why.Error() }
func (r refusal) Unwrap() error { return r.why }

func refused(status int, format string, args ...any) error {
	return refusal{topics.Errorf(topics.BadRequest, format, args...), status}
}

// retryAfter is in how many seconds it is worth trying again, when the bus does not
// say.
var retryAfter = map[topics.Code]float64{topics.Offline: 5, topics.Busy: 2, topics.Unavailable: 1, topics.RateLimited: 2}

// refuse tells the client what was wrong.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := *topics.AsError(err)
	if e.Code == topics.Internal {
		h.cfg.Logger.Error("a request failed", "method", r.Method, "error", err)
	}
	status := e.Code.HTTP()
	if special, ok := errors.AsType[refusal](err); ok {
		status = special.status
	}
	if e.RetryAfter == 0 {
		e.RetryAfter = retryAfter[e.Code]
	}
	if status == http.StatusUnauthorized {
		// Basic is taken, too; named here it would have browsers ask for a password.
		w.Header().Set("WWW-Authenticate", `Bearer realm="beckon"`)
	}
	bridge.ProblemStatus(w, status, &e)
}
