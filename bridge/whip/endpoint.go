package whip

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

const allowEndpoint = "OPTIONS, POST"

// endpoint serves /{kind}/{room}/{peer}.
func (h *Handler) endpoint(w http.ResponseWriter, r *http.Request, kind, room, device string) error {
	switch r.Method {
	case http.MethodOptions:
		preflight(w, allowEndpoint)
		return nil
	case http.MethodPost:
		return h.post(w, r, kind, room, device)
	default:
		return notAllowed(w, r, allowEndpoint, "this URL")
	}
}

// deadline is the time that a request has.
func (h *Handler) deadline(r *http.Request) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Deadline)
	stop := context.AfterFunc(h.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// post opens a session: the client's offer goes to the device, whose answer is the
// answer to the request (RFC 9725, 4.2).
func (h *Handler) post(w http.ResponseWriter, r *http.Request, kind, room, device string) error {
	ctx, cancel := h.deadline(r)
	defer cancel()
	if h.isDrained() {
		return errClosing
	}
	shown := bridge.Credentials(r)
	id, err := h.identify(ctx, r, shown)
	if err != nil {
		return err
	}
	s, err := h.newSession(id, kind, room, device)
	if err != nil {
		return err
	}
	if err := h.joins.Spend(ctx, id.Name, 1); err != nil {
		return err
	}
	s.mark = h.mark(shown)
	text, err := h.body(ctx, w, r, typeSDP)
	if err != nil {
		return err
	}
	if s.offer, err = parseSDP(text); err != nil {
		return err
	}
	if err := s.offer.checkOffer(kind); err != nil {
		return err
	}
	answer, err := s.open(ctx)
	if r.Context().Err() != nil { // the client is gone, and nobody knows the session
		s.log("call failed", "why", "its client went before there was an answer")
		s.abandon(nil)
		return nil
	}
	if err == nil {
		err = s.answered()
	}
	if err != nil {
		s.log("call failed", "status", bridge.Status(err), "why", err) // not too often: see Joins
		s.abandon(err)
		return err
	}
	header := w.Header()
	header.Set("Content-Type", typeSDP)
	header.Set("Location", s.path)
	header.Set("ETag", s.etag)
	header.Set("Accept-Patch", typeFragment)
	addLinks(header, s.servers())
	w.WriteHeader(http.StatusCreated)
	if _, err := io.WriteString(w, answer.String()); err != nil {
		s.hangUp("hangup")
	}
	return nil
}

// open joins the room and calls the device.
func (s *session) open(ctx context.Context) (description, error) {
	if err := s.enter(); err != nil {
		return description{}, err
	}
	answer, err := s.ask(ctx, s.offer)
	if err != nil {
		return answer, err
	}
	s.renew(answer)
	return answer, nil
}

// renew takes note of an answer, by a new ETag (RFC 9725, 4.3.1).
func (s *session) renew(answer description) {
	s.ufrag, s.etag = answer.value(attrUfrag), `"`+rand.Text()+`"`
}

// abandon takes leave of a device that gave no answer that anyone could use, or
// whose client is gone; without a word where the door closes.
func (s *session) abandon(why error) {
	if s.bus == nil {
		return
	}
	if why == errClosing {
		s.over(why)
		s.bus.Close(false)
		return
	}
	reason := "hangup"
	if topics.AsError(why).Code == topics.Timeout {
		reason = "timeout"
	}
	if !s.hangUp(reason) {
		s.bus.Close(true) // it ended by itself
	}
}
