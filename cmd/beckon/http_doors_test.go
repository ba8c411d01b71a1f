package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

// lineHTTP is server-sent events, and a request for each message.
type lineHTTP struct {
	me     string
	base   string
	token  string
	client *http.Client
	frames *lineJSON // which takes what the events carry
	caller *caller

	mu      sync.Mutex
	open    map[string]func() // streams, by room
	reading sync.WaitGroup
}

func (s *site) http(t testing.TB, c *caller) *lineHTTP {
	l := &lineHTTP{
		me: c.name, base: c.at.scheme + "://" + s.MQTT + "/api/v1/rooms/", caller: c,
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
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if l.token != "" {
		r.Header.Set("Authorization", "Bearer "+l.token)
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
				l.frames.take(strings.Join(data, "\n"), l.caller.events)
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
