package whip

import (
	"errors"
	"net/http"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

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

// unprocessable is for what is well-formed, but cannot be used (422).
func unprocessable(format string, args ...any) error {
	return refused(http.StatusUnprocessableEntity, format, args...)
}

// retryAfter is in how many seconds it is worth trying again, when the bus does not
// say.
var retryAfter = map[topics.Code]float64{topics.Offline: 5, topics.Busy: 2, topics.Unavailable: 2, topics.RateLimited: 2}

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
