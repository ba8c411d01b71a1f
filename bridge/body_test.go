package bridge

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

func TestBodyIsOfItsTypeAndNotTooLong(t *testing.T) {
	for _, c := range []struct {
		method, kind, body string
		status             int // 0: it is taken
		header             string
	}{
		{"POST", "application/json", "1234", 0, ""},
		{"POST", "Application/JSON; charset=utf-8", "", 0, ""},
		{"POST", "application/json", "12345", 413, ""},
		{"POST", "text/plain", "", 415, "Accept-Post"},
		{"PATCH", "", "", 415, "Accept-Patch"},
		{"PATCH", "application/json/", "", 415, "Accept"},
	} {
		r, w := httptest.NewRequest(c.method, "/", strings.NewReader(c.body)), httptest.NewRecorder()
		r.Header.Set("Content-Type", c.kind)
		text, err := Body(w, r, "application/json", 4)
		if c.status == 0 {
			if err != nil || string(text) != c.body {
				t.Errorf("%+v: %q, %v", c, text, err)
			}
			continue
		}
		status := 0
		if special, ok := errors.AsType[Refusal](err); ok {
			status = special.Status
		} else if err != nil {
			status = topics.AsError(err).Code.HTTP()
		}
		if status != c.status || c.header != "" && w.Header().Get(c.header) != "application/json" {
			t.Errorf("%+v: %d %v, %v", c, status, err, w.Header())
		}
	}
}
