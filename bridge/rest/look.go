package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
)

type roomInfo struct {
	Room  string `json:"room"`
	Peers int    `json:"peers"`
}

// rooms answers who is where.
func (h *Handler) rooms(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	id, err := h.identify(ctx, r, "", aLookUp)
	if err != nil {
		return err
	}
	list := []roomInfo{}
	for room, peers := range h.cfg.Rooms(id) {
		list = append(list, roomInfo{room, peers})
	}
	slices.SortFunc(list, func(a, b roomInfo) int { return cmp.Compare(a.Room, b.Room) })
	answer(w, http.StatusOK, map[string]any{"rooms": list})
	return nil
}

type peerInfo struct {
	Peer     string          `json:"peer"`
	Presence json.RawMessage `json:"presence"`
}

// peers answers who is in a room.
func (h *Handler) peers(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	id, err := h.identify(ctx, r, "", aLookUp)
	if err != nil {
		return err
	}
	there, err := h.cfg.Peers(id, r.PathValue("room"))
	if err != nil {
		return err
	}
	list := []peerInfo{}
	for _, d := range there {
		list = append(list, peerInfo{d.Src, d.Payload})
	}
	answer(w, http.StatusOK, map[string]any{"peers": list})
	return nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	to := json.NewEncoder(w)
	to.SetEscapeHTML(false)
	_ = to.Encode(body) // the client is gone: nobody to tell
}
