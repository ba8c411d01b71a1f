package rest

import (
	"context"
	"errors"
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
	if s != nil {
		err = s.session.Say(id, room, text)
	}
	switch {
	case s == nil, errors.Is(err, bridge.ErrEnding):
		return topics.Errorf(topics.Forbidden, "%s is not in %s by this server: open .../events first", me, room)
	case err != nil:
		return err
	}
	answer(w, http.StatusAccepted, map[string]string{"status": "accepted"})
	return nil
}
