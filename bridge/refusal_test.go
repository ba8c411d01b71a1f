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

func TestTheLogSaysWhoseRequestFailed(t *testing.T) {
	var log bytes.Buffer
	mux := http.NewServeMux()
	mux.HandleFunc("POST /rooms/{room}/peers/{me}/messages", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, r, slog.New(slog.NewTextHandler(&log, nil)), errors.New("the disk is on fire"))
	})
	r := httptest.NewRequest("POST", "/rooms/garage/peers/alice/messages?token=hunter2", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	mux.ServeHTTP(httptest.NewRecorder(), r)
	for _, want := range []string{"remote=192.0.2.7:1234", `route="POST /rooms/{room}/peers/{me}/messages"`, "room=garage", "peer=alice", "the disk is on fire"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("there is no %s in %s", want, &log)
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Error("the log has the token")
	}
}

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
