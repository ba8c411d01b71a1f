package main

import (
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestPageAndProbesAreServedWithAndWithoutTLSWhereMQTTIs(t *testing.T) {
	s := startSite(t)
	c := startCanaries(t, s)
	files, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"http", "https"} {
		ask := func(path string) (*http.Response, string) {
			t.Helper()
			answer, body := get(t, "GET", scheme+"://"+s.MQTT+path, s.trust)
			if answer.StatusCode != http.StatusOK {
				t.Errorf("%s %s: %s", scheme, path, answer.Status)
			}
			return answer, body
		}
		_, page := ask("/")
		if answer, _ := ask("/healthz"); answer.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("/healthz: %v", answer.Header)
		}
		if _, body := ask("/readyz"); body != "ready" {
			t.Errorf("/readyz: %q", body)
		}
		linked := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
		if len(linked) == 0 {
			t.Errorf("the page needs no file:\n%s", page)
		}
		for _, link := range linked {
			if !strings.Contains(link[1], ":") {
				ask("/" + strings.TrimLeft(link[1], "./"))
			}
		}
		for _, f := range files {
			kind, known := map[string]string{".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}[filepath.Ext(f.Name())]
			if !known {
				continue
			}
			answer, body := ask("/" + f.Name())
			want, err := os.ReadFile(filepath.Join("page", f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if got, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); got != kind || body != string(want) {
				t.Errorf("%s is %s of %d bytes, want %s of %d", f.Name(), got, len(body), kind, len(want))
			}
		}
		if answer, _ := get(t, "GET", scheme+"://"+s.MQTT+"/page.go", s.trust); answer.StatusCode != http.StatusNotFound {
			t.Errorf("/page.go: %s", answer.Status)
		}
		c.sing()
	}
}

func TestWhichPagesMayConnectIsTheSameAtEveryWebSocket(t *testing.T) {
	threat.Row(t, 10, threat.WS|threat.JSON)
	s := startSite(t, "--origin=https://app.example")
	for _, c := range []struct {
		header http.Header
		want   int
	}{
		{nil, http.StatusSwitchingProtocols},
		{http.Header{"Origin": {"http://" + s.MQTT}}, http.StatusSwitchingProtocols},
		{http.Header{"Origin": {"http://localhost:5173"}}, http.StatusSwitchingProtocols},
		{http.Header{"Origin": {"https://app.example"}}, http.StatusSwitchingProtocols},
		{http.Header{"Host": {"localhost"}}, http.StatusSwitchingProtocols},
		{http.Header{"Origin": {"http://app.example"}}, http.StatusForbidden},
		{http.Header{"Origin": {"https://app.example.evil.example"}}, http.StatusForbidden},
		{http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{http.Header{"Origin": {"http://localhost.evil.example"}}, http.StatusForbidden},
		{http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{http.Header{"Origin": {"file://"}}, http.StatusForbidden},
		{http.Header{"Host": {"evil.example"}}, http.StatusForbidden},
		{http.Header{"Host": {"evil.example"}, "Origin": {"http://evil.example"}}, http.StatusForbidden},
		{http.Header{"Host": {"127.0.0.1.evil.example"}}, http.StatusForbidden},
	} {
		for _, address := range []string{"ws://" + s.MQTT + "/ws", "wss://" + s.MQTT + "/ws", "ws://" + s.MQTT + "/mqtt", "wss://" + s.MQTT + "/mqtt"} {
			dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: s.trust.Clone()}
			dialer.TLSClientConfig.ServerName = "127.0.0.1"
			ws, answer, err := dialer.Dial(address, c.header.Clone())
			if ws != nil {
				ws.Close()
			}
			if answer == nil || answer.StatusCode != c.want {
				t.Errorf("%s with %v: %v, %v, want %d", address, c.header, err, answer, c.want)
			}
		}
	}
	if log := s.Log.String(); slices.ContainsFunc(strings.Split(log, "\n"), func(l string) bool { return strings.Contains(l, "level=ERROR") }) {
		t.Errorf("the server's log has errors:\n%s", log)
	}
}
