package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthTellsReadyFromOverloadedAndAbsentAndSaysWhy(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, "overloaded: too little memory")
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	ask := func(url string) (int, string) {
		var stderr strings.Builder
		code := run([]string{"health", url}, io.Discard, &stderr)
		return code, stderr.String()
	}
	if code, said := ask(server.URL); code != exitOK {
		t.Errorf("ready: exit %d, %s", code, said)
	}
	status = http.StatusServiceUnavailable
	if code, said := ask(server.URL); code != exitFailed || !strings.Contains(said, "503") || !strings.Contains(said, "overloaded: too little memory") {
		t.Errorf("overloaded: exit %d, %s", code, said)
	}
	if code, said := ask("http://127.0.0.1:1/"); code != exitFailed || !strings.Contains(said, "not reachable") {
		t.Errorf("absent: exit %d, %s", code, said)
	}
}
