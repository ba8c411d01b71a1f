package main

import (
	"io"
	"net/http"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/cmd/beckon/api"
	"github.com/beckon-rtc/beckon/cmd/beckon/page"
)

// routes is every path that is served over HTTP. The page sets the security
// headers that are a page's own.
func (h *house) routes(origins bridge.Origins) http.Handler {
	mux := http.NewServeMux()
	watchers := http.NewServeMux()
	watchers.Handle("/healthz", probe(alive))
	watchers.Handle("/readyz", probe(h.ready))
	watchers.Handle("/", h.served(mux))
	mux.Handle("/mqtt", h.mqtt)
	mux.Handle("/ws", h.ws)
	mux.Handle("/api/v1/", h.rest)
	mux.Handle("/whep/", h.whip)
	mux.Handle("/whip/", h.whip)
	if h.accounts != nil {
		mux.Handle("/api/v1/tokens", &tokens{h.accounts.mint, origins, h.log})
	}
	mux.Handle("/api/openapi.yaml", api.Handler(api.OpenAPI()))
	mux.Handle("/api/asyncapi.yaml", api.Handler(api.AsyncAPI()))
	mux.Handle("/", page.Handler())
	return noSniff(watchers)
}

// alive holds as long as the process answers.
func alive() (status int, word string) { return http.StatusOK, "ok" }

// ready holds until the server is told to stop, and while it takes connections.
func (h *house) ready() (status int, word string) {
	if h.draining.Load() {
		return http.StatusServiceUnavailable, "draining"
	}
	if why := h.overload.why(); why != "" {
		return http.StatusServiceUnavailable, "overloaded: " + why
	}
	return http.StatusOK, "ready"
}

// served refuses the requests of connections for which there is too little left, but
// not those of peers and sessions that are there.
func (h *house) served(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := door.Refused(r); err != nil {
			w.Header().Set("Connection", "close")
			if !h.rest.Knows(r) && !h.whip.Knows(r) {
				bridge.Problem(w, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// noSniff keeps browsers from taking an answer for something else than it says.
func noSniff(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// probe answers whoever watches the server: a status and a word.
func probe(state func() (status int, word string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "use GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		status, word := state()
		header.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		io.WriteString(w, word)
	})
}
