package rest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/topics"
)

func TestMessageOfAStreamThatIsJustEndingIsToldSoInWordsOfHTTP(t *testing.T) {
	h, err := New(Config{
		Connect: new(bustest.Memory).Connect,
		Authenticate: func(context.Context, topics.Credentials) (topics.Identity, error) {
			return bustest.PeerOf("alice"), nil
		},
		Rooms:  func(topics.Identity) map[string]int { return nil },
		Peers:  func(topics.Identity, string) ([]topics.Delivery, error) { return nil, nil },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	s := &stream{session: bridge.NewSession(&h.bridge, bridge.Client{})}
	s.session.Lost()
	h.byPeer[place{"garage", "alice"}] = s // as while it leaves
	r, w := httptest.NewRequest("POST", "/api/v1/rooms/garage/peers/alice/messages", strings.NewReader(`{"type":"msg"}`)), httptest.NewRecorder()
	r.Header.Set("Content-Type", "application/json")
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "open .../events first") {
		t.Errorf("it is told %d %s", w.Code, w.Body)
	}
}
