package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// lineHTTP is server-sent events, and a request for each message.
type lineHTTP struct {
	me     string
	base   string
	header http.Header // credentials
	client *http.Client
	frames *lineJSON // which takes what the events carry
	caller *caller
	told   io.Writer // see site

	mu      sync.Mutex
	open    map[string]func() // streams, by room
	reading sync.WaitGroup
}

func (s *site) http(t testing.TB, c *caller) *lineHTTP {
	l := &lineHTTP{
		me: c.name, base: c.at.scheme + "://" + s.MQTT + "/api/v1/rooms/", caller: c, told: s.told,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: s.trust}},
		frames: &lineJSON{me: c.name}, open: make(map[string]func()),
	}
	t.Cleanup(l.cut)
	return l
}

func (l *lineHTTP) do(ctx context.Context, method, url, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, l.base+url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, l.header)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return l.client.Do(r)
}

func (l *lineHTTP) join(room string) error {
	ctx, cancel := context.WithCancel(context.Background())
	presence := url.QueryEscape(fmt.Sprintf(`{"name":%q}`, l.me))
	answer, err := l.do(ctx, "GET", room+"/peers/"+l.me+"/events?presence="+presence, "")
	if err != nil {
		cancel()
		return err
	}
	if answer.StatusCode != http.StatusOK {
		cancel()
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("the join was answered with %s %s", answer.Status, text)
	}
	l.mu.Lock()
	l.open[room] = cancel
	l.mu.Unlock()
	l.reading.Go(func() {
		defer answer.Body.Close()
		var data []string
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			switch value, is := strings.CutPrefix(lines.Text(), "data: "); {
			case is:
				data = append(data, value)
			case lines.Text() == "" && data != nil:
				frame := strings.Join(data, "\n")
				if l.told != nil {
					fmt.Fprintln(l.told, frame)
				}
				l.frames.take(frame, l.caller.events)
				data = nil
			}
		}
		l.caller.end("the stream ended")
	})
	return nil
}

func (l *lineHTTP) send(room, to string, payloads ...string) (fate int, err error) {
	for _, p := range payloads {
		if to != "" {
			at := strings.IndexByte(p, '"')
			p = p[:at] + fmt.Sprintf(`"to":%q,`, to) + p[at:]
		}
		if fate, err = l.post(room, p); err != nil {
			return fate, err
		}
	}
	return fate, nil
}

func (l *lineHTTP) post(room, frame string) (int, error) {
	answer, err := l.do(context.Background(), "POST", room+"/peers/"+l.me+"/messages", frame)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var problem struct{ Reason string }
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil {
		return 0, err
	}
	if answer.StatusCode == http.StatusAccepted {
		return 0, nil
	}
	for _, code := range topics.Codes() {
		if code.Reason() == problem.Reason {
			l.caller.events <- event{"error", room, topics.Server, fmt.Sprintf(`{"type":"error","code":%d,"reason":%q}`, code, problem.Reason)}
			return int(code), nil
		}
	}
	return 0, fmt.Errorf("the answer is %s with the reason %q", answer.Status, problem.Reason)
}

func (l *lineHTTP) part(room string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[room]()
	return nil
}

func (l *lineHTTP) leave() { l.cut() } // the door has no other way

func (l *lineHTTP) cut() {
	l.mu.Lock()
	for _, cancel := range l.open {
		cancel()
	}
	l.mu.Unlock()
	l.reading.Wait()
	l.client.CloseIdleConnections()
}

func TestHTTPClientSeesAndSaysWhatItsAccountMay(t *testing.T) {
	t.Parallel()
	threat.Row(t, 1, threat.HTTP)
	threat.Row(t, 2, threat.HTTP)
	threat.Row(t, 3, threat.HTTP)
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	hash := auth.HashPassword(alicePwd)
	for name, grant := range map[string]topics.Grant{
		"vera": {Room: "garage", Role: topics.Viewer, Of: "cam1"},
		"otto": {Room: "*", Role: topics.Observer},
		"anna": {Room: "attic", Role: topics.Peer},
	} {
		if err := auth.SetUser(users, auth.Account{Name: name, Password: hash, Grants: []topics.Grant{grant}}); err != nil {
			t.Fatal(err)
		}
	}
	s := startSite(t, "--users="+users, "--limit-logins=0")
	cam := s.member(t, mqtt3TCP, "cam1", camera1)
	alice := s.member(t, sseHTTP, "alice", alicePwd)
	vera := s.member(t, sseHTTPS, "vera", alicePwd)
	document := openAPIDocument(t)
	ask := func(user, method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, s.URL+"/api/v1/rooms"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, alicePwd)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		document.answered(method, r.URL.Path, answer.StatusCode, answer.Header, string(text))
		return answer.StatusCode, string(text)
	}
	for _, c := range []struct {
		user, method, path, body string
		status                   int
		words                    string
	}{
		{"", "GET", "", "", 401, "unauthorized"},
		{"", "GET", "/garage/peers", "", 401, "unauthorized"},
		{"", "GET", "/garage/peers/alice/events", "", 401, "unauthorized"},
		{"", "POST", "/garage/peers/alice/messages", `{"type":"msg"}`, 401, "unauthorized"},
		{"alice", "GET", "", "", 200, `{"rooms":[{"room":"garage","peers":3}]}`},
		{"vera", "GET", "", "", 200, `{"rooms":[{"room":"garage","peers":1}]}`},
		{"otto", "GET", "", "", 200, `{"rooms":[{"room":"garage","peers":3}]}`},
		{"anna", "GET", "", "", 200, `{"rooms":[]}`},
		{"alice", "GET", "/garage/peers", "", 200, `"peer":"vera"`},
		{"vera", "GET", "/garage/peers", "", 200, `{"peers":[{"peer":"cam1","presence":{"online":true,"name":"cam1",`},
		{"anna", "GET", "/garage/peers", "", 403, "anna may not see who is in garage"},
		{"anna", "GET", "/attic/peers", "", 200, `{"peers":[]}`},
		{"anna", "GET", "/garage/peers/anna/events", "", 403, "forbidden"},
		{"anna", "GET", "/attic/peers/alice/events", "", 403, "cannot be alice"},
		{"otto", "GET", "/garage/peers/otto/events", "", 403, "forbidden"},
		{"vera", "POST", "/garage/peers/alice/messages", `{"type":"msg"}`, 403, "who cannot speak as alice"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"msg","to":"cam1","from":"alice"}`, 400, "from"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"msg","to":"cam1","from":"_"}`, 400, "from"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"msg","to":"cam1","to":"alice"}`, 400, "twice"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"msg","room":"attic","to":"cam1"}`, 400, "room"},
		{"vera", "GET", "/garage/peers/alice/events", "", 403, "cannot be alice"},
		{"vera", "GET", "/garage/peers/_/events", "", 400, "peer"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"msg","to":"alice"}`, 403, "vera may not send that in garage"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"msg"}`, 403, "vera may not send that in garage"},
		{"anna", "POST", "/attic/peers/anna/messages", `{"type":"msg"}`, 403, "open .../events first"},
		{"vera", "POST", "/garage/peers/vera/messages", `{"type":"offer","session":"k3","to":"cam1","sdp":"v=0"}`, 202, "accepted"},
		{"alice", "POST", "/garage/peers/alice/messages", `{"type":"msg","to":"vera","data":1}`, 202, "accepted"},
	} {
		if status, text := ask(c.user, c.method, c.path, c.body); status != c.status || !strings.Contains(text, c.words) {
			t.Errorf("%s %s as %q %s: %d %s\nwant %d %s", c.method, c.path, c.user, c.body, status, text, c.status, c.words)
		}
	}
	cam.until("the offer", func(e event) bool { return e.from == "vera" && e.text == `{"type":"offer","session":"k3","sdp":"v=0"}` })
	vera.until("the message", func(e event) bool { return e.from == "alice" && strings.Contains(e.text, `"data":1`) })
	cam.send("alice", `{"type":"msg","data":2}`)
	alice.until("the message", func(e event) bool { return e.from == "cam1" && strings.Contains(e.text, `"data":2`) })
	if log := s.Log.String(); strings.Contains(log, "hunter2") {
		t.Error("a password is in the log")
	}
}

// A flood is slowed down, told, and its stream ended.
func TestFloodOverHTTPIsRefusedInTheEnd(t *testing.T) {
	threat.Row(t, 16, threat.HTTP)
	s := startSite(t, "--limit-rate=50", "--limit-burst=5")
	flood := s.caller(t, sseHTTP, "flood", "garage")
	refused := make(chan int, 1)
	var posting sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		posting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if fate, err := flood.line.send("garage", "", `{"type":"msg"}`); err == nil && fate == 429 {
					select {
					case refused <- fate:
					default:
					}
				}
			}
		})
	}
	select {
	case <-refused:
	case <-time.After(atMost):
		t.Error("nothing was refused")
	}
	flood.isEnded("", "")
	close(stop)
	posting.Wait()
}
