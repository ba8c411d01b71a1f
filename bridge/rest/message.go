package rest

import (
	"context"
	"net/http"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// message says something for the peer of an open stream.
func (h *Handler) message(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	room, me := r.PathValue("room"), r.PathValue("me")
	id, err := h.identify(ctx, r, me, aMessage)
	if err != nil {
		return err
	}
	if id.Name != me {
		return topics.Errorf(topics.Forbidden, "these are the credentials of %s, who cannot speak as %s", id.Name, me)
	}
	text, err := bridge.Body(ctx, w, r, "application/json", h.cfg.MaxMessage)
	if err != nil {
		return err
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
