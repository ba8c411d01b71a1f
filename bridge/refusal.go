package bridge

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/beckon-rtc/beckon/topics"
)

// Refusal is an error whose HTTP status says more than its code.
type Refusal struct {
	Why    *topics.Error
	Status int
}

func (r Refusal) Error() string { return r.Why.Error() }
func (r Refusal) Unwrap() error { return r.Why }

// Refused is a Refusal of what a client asks for, of the code 400.
func Refused(status int, format string, args ...any) error {
	return Refusal{topics.Errorf(topics.BadRequest, format, args...), status}
}

// Status is the HTTP status that a client is told for err.
func Status(err error) int {
	if special, ok := errors.AsType[Refusal](err); ok {
		return special.Status
	}
	return topics.AsError(err).Code.HTTP()
}

// retryAfter is in how many seconds it is worth trying again, when the bus does not
// say.
var retryAfter = map[topics.Code]float64{topics.Offline: 5, topics.Busy: 2, topics.Unavailable: 2, topics.RateLimited: 2}

// whose is what the log says of a request. The path itself may hold a secret.
func whose(r *http.Request) []any {
	about := []any{"method", r.Method, "route", r.Pattern, "remote", r.RemoteAddr}
	if room := r.PathValue("room"); topics.ValidName(room) {
		about = append(about, "room", room)
	}
	if me := r.PathValue("me"); topics.ValidName(me) {
		about = append(about, "peer", me)
	}
	return about
}

// Refuse tells the client what was wrong with its request, and the log what is wrong
// with the server.
func Refuse(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	e := *topics.AsError(err)
	if e.Code == topics.Internal {
		log.Error("a request failed", append(whose(r), "error", err)...)
	}
	status := Status(err)
	if e.RetryAfter == 0 {
		e.RetryAfter = retryAfter[e.Code]
	}
	if header := w.Header(); status == http.StatusUnauthorized && header.Get("WWW-Authenticate") == "" {
		// Basic is taken, too; named here it would have browsers ask for a password.
		header.Set("WWW-Authenticate", `Bearer realm="beckon"`)
	}
	ProblemStatus(w, status, &e)
}
