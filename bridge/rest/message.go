package rest

import (
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/beckon-rtc/beckon/topics"
)

// message says something for the peer of an open stream.
func (h *Handler) message(w http.ResponseWriter, r *http.Request) error {
	room, me := r.PathValue("room"), r.PathValue("me")
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		w.Header().Set("Accept-Post", "application/json")
		return refused(http.StatusUnsupportedMediaType, "the body takes Content-Type: application/json")
	}
	id, err := h.identify(r, me, aMessage)
	if err != nil {
		return err
	}
	if id.Name != me {
		return topics.Errorf(topics.Forbidden, "these are the credentials of %s, who cannot speak as %s", id.Name, me)
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(h.cfg.MaxMessage)))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return topics.Errorf(topics.TooLarge, "the body is longer than the limit of %d bytes", h.cfg.MaxMessage)
	}
	if err != nil {
		return topics.Errorf(topics.Timeout, "the body did not come")
	}
	s := h.find(place{room, me})
	if s == nil {
		return topics.Errorf(topics.Forbidden, "%s is not in %s by this server: open .../events first", me, room)
	}
	if err := s.session.Say(id, room, text); err != nil {
		return err
	}
	answer(w, http.StatusAccepted, map[string]string{"status": "accepted"})
	return nil
}
