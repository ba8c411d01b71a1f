package rest

import (
	"net/http"

	"github.com/beckon-rtc/beckon/topics"
)

// origin refuses pages that are not allowed, and lets those that are read the
// answer (Fetch, 3.3).
func (h *Handler) origin(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	header.Add("Vary", "Origin")
	if err := h.cfg.Origins.Check(r); err != nil {
		return err
	}
	from := r.Header.Get("Origin")
	if from == "" {
		return direct(r)
	}
	header.Set("Access-Control-Allow-Origin", from)
	header.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
	return nil
}

// direct refuses what a page of another site causes without an Origin: an image,
// say, whose address joins a room with the password that the browser keeps (Fetch
// Metadata, 2.4). Clients that are no browser have no such header.
func direct(r *http.Request) error {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return nil
	}
	return topics.Errorf(topics.Forbidden, "a page of another site asks for this: it takes fetch or an EventSource, and --origin at the server")
}

func preflight(w http.ResponseWriter, t route) {
	header := w.Header()
	header.Set("Allow", t.allow())
	header.Set("Access-Control-Allow-Methods", t.method)
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
