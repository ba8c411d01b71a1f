package rest

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDrainSaysHowLongItTakesFromItsFirstMoment(t *testing.T) {
	h := &Handler{streams: make(map[*stream]struct{})}
	for range 2000 {
		h.streams[new(stream)] = struct{}{}
	}
	if open, _ := h.stop(25 * time.Second); len(open) != 2000 {
		t.Errorf("%d streams", len(open))
	}
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	r.Header.Set("Accept", eventStream)
	if err := h.later(w, r); err != nil || !strings.Contains(w.Body.String(), `"in":20}`) {
		t.Errorf("it is told %s, %v", w.Body, err)
	}
}
