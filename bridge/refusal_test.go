package bridge

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

func TestRefusalsTellTheClientWhatWasWrongAndTheLogWhatFailed(t *testing.T) {
	asked := topics.Errorf(topics.RateLimited, "too many")
	asked.RetryAfter = 1.2
	for _, c := range []struct {
		err          error
		status       int
		body, header string // a part of it, and "Name: value"
		log          string
	}{
		{Refused(http.StatusConflict, "there is one"), 409, `"detail":"there is one"`, "Content-Type: application/problem+json", ""},
		{topics.Errorf(topics.Offline, "cam1 is offline"), 409, `"reason":"offline"`, "Retry-After: 5", ""},
		{asked, 429, `"temporary":true`, "Retry-After: 2", ""},
		{topics.Errorf(topics.Unauthorized, "who?"), 401, `"who?"`, `WWW-Authenticate: Bearer realm="beckon"`, ""},
		{errors.New("the disk is on fire"), 500, "its log says more", "Cache-Control: no-store", "the disk is on fire"},
	} {
		var log bytes.Buffer
		w := httptest.NewRecorder()
		Refuse(w, httptest.NewRequest("GET", "/", nil), slog.New(slog.NewTextHandler(&log, nil)), c.err)
		name, value, _ := strings.Cut(c.header, ": ")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) || w.Header().Get(name) != value {
			t.Errorf("%v: %d %v %s", c.err, w.Code, w.Header(), w.Body)
		}
		if !strings.Contains(log.String(), c.log) || c.log == "" && log.Len() > 0 {
			t.Errorf("%v: the log has %q", c.err, &log)
		}
	}
}
