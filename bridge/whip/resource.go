package whip

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

const allowSession = "OPTIONS, PATCH, DELETE"

// resource serves the URL of a session. The methods of one that is not there are
// those of one that is: nothing tells them apart before the key is right.
func (h *Handler) resource(w http.ResponseWriter, r *http.Request, path string) error {
	switch r.Method {
	case http.MethodOptions:
		preflight(w, allowSession)
		return nil
	case http.MethodPatch, http.MethodDelete:
	default:
		return notAllowed(w, r, allowSession, "a session")
	}
	ctx, cancel := h.deadline(r)
	defer cancel()
	s := h.find(path)
	if s == nil {
		return gone()
	}
	if err := h.checkOwner(ctx, r, s); err != nil {
		return err
	}
	if r.Method == http.MethodDelete {
		if !s.hangUp("hangup") {
			return gone()
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if err := h.patches.Spend(ctx, s.me.Account, 1); err != nil {
		return err
	}
	return h.patch(ctx, w, r, s)
}

// checkOwner refuses credentials that are not of who opened the session. There need
// be none: players do not send them here, and its URL can be known to them alone.
func (h *Handler) checkOwner(ctx context.Context, r *http.Request, s *session) error {
	c := bridge.Credentials(r)
	if c.Token == "" && c.Username == "" && c.Password == "" && len(c.TLS) == 0 || h.mark(c) == s.mark {
		return nil
	}
	id, err := h.identify(ctx, r, c)
	if err != nil {
		return err
	}
	if id.Name != s.me.Account {
		return topics.Errorf(topics.Forbidden, "the session was opened by somebody else than %s", id.Name)
	}
	return nil
}

// patch trickles candidates to the device, or restarts ICE (RFC 9725, 4.3).
func (h *Handler) patch(ctx context.Context, w http.ResponseWriter, r *http.Request, s *session) error {
	text, err := h.body(ctx, w, r, typeFragment)
	if err != nil {
		return err
	}
	f, err := parseFragment(text)
	if err != nil {
		return err
	}
	if err := s.await(ctx); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	if err := s.match(r.Header); err != nil {
		return err
	}
	if slices.Contains(s.past, f.ufrag) {
		return bridge.Refused(http.StatusPreconditionFailed, "this is of the ICE before it was restarted")
	}
	if err := f.check(s.offer); err != nil {
		return err
	}
	switch {
	case f.ufrag == "" || s.offer.hasUfrag(f.ufrag):
		if err := s.trickle(f); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	case f.pwd == "":
		return unprocessable("the ice-ufrag %s is not that of the offer, and to restart ICE it takes an a=ice-pwd, too", bridge.Excerpt(f.ufrag))
	}
	answer, err := s.restart(ctx, f)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", typeFragment)
	header.Set("ETag", s.etag)
	addLinks(header, s.servers())
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, answer.ice()) // the client is gone: its media may not be
	return nil
}

// match holds a request against the ETag (RFC 9110, 13.1.1). Some clients call the
// header ETag, and leave the quotes out.
func (s *session) match(header http.Header) error {
	asked := strings.Join(header.Values("If-Match"), ",")
	if asked == "" {
		asked = header.Get("ETag")
	}
	if asked == "" {
		if s.handler.cfg.Strict {
			return bridge.Refused(http.StatusPreconditionRequired, "this request takes If-Match, with the ETag of the session")
		}
		return nil
	}
	for tag := range strings.SplitSeq(asked, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == s.etag || `"`+tag+`"` == s.etag {
			return nil
		}
	}
	return bridge.Refused(http.StatusPreconditionFailed, "the session has another ETag by now: ICE was restarted")
}

// trickle tells the device of candidates.
func (s *session) trickle(f fragment) error {
	for _, m := range f.messages(s.callID, s.offer) {
		if err := s.say(m); err != nil {
			return err
		}
	}
	return nil
}

// maxPast is how many ICE restarts back a late fragment is known for one.
const maxPast = 16

// restart has the device restart ICE, and returns its answer. When it fails the
// session stays as it was: media may flow.
func (s *session) restart(ctx context.Context, f fragment) (description, error) {
	offer := s.offer.restarted(f)
	answer, err := s.ask(ctx, offer)
	if err != nil {
		return answer, err
	}
	if ufrag := answer.value(attrUfrag); ufrag == "" || ufrag == s.ufrag {
		return answer, unprocessable("%s does not restart ICE: it answered with its old ice-ufrag", s.device)
	}
	if s.past = append(s.past, s.offer.value(attrUfrag)); len(s.past) > maxPast {
		s.past = s.past[1:]
	}
	s.offer = offer
	s.renew(answer)
	return answer, nil
}
