package whip

import (
	"net/http"

	"github.com/beckon-rtc/beckon/topics"
)

// origin lets pages read the answer (Fetch, 3.3). Those of any site may: they show
// a token of their own, and nothing that a browser adds by itself counts here.
// Where no credentials are needed (Dev) only those may that could open a WebSocket,
// too.
func (h *Handler) origin(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	header.Set("Access-Control-Expose-Headers", "Accept, Accept-Patch, Accept-Post, Access-Control-Allow-Methods, ETag, Link, Location, Retry-After, WWW-Authenticate")
	if !h.cfg.Origins.Dev {
		header.Set("Access-Control-Allow-Origin", "*")
		return nil
	}
	header.Add("Vary", "Origin")
	if err := h.cfg.Origins.Check(r); err != nil {
		return topics.AsError(err)
	}
	if from := r.Header.Get("Origin"); from != "" {
		header.Set("Access-Control-Allow-Origin", from)
	}
	return nil
}

// preflight answers OPTIONS. PATCH stands among the methods of the endpoint, where
// there is none: players look there whether they can trickle.
func preflight(w http.ResponseWriter, allow string) {
	header := w.Header()
	header.Set("Allow", allow)
	header.Set("Accept-Post", typeSDP)
	header.Set("Accept-Patch", typeFragment)
	header.Set("Access-Control-Allow-Methods", "OPTIONS, POST, PATCH, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, ETag, *")
	header.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}
