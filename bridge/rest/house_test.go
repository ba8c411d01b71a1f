package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/bridge/rest"
	"github.com/beckon-rtc/beckon/topics"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// house is the door on a bus in memory, with a server around it.
type house struct {
	*rest.Handler
	t      testing.TB
	bus    *bustest.Memory
	server *httptest.Server

	mu    sync.Mutex
	shown []topics.Credentials
	held  int // connections that are not admitted
}

// authenticate lets anyone in by a token that is their name, or under the name they
// would like without one; the token "wrong" is nobody's.
func (h *house) authenticate(_ context.Context, c topics.Credentials) (topics.Identity, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = append(h.shown, c)
	name := c.Token
	if name == "" {
		name = c.Username
	}
	if name == "" {
		name = c.Name
	}
	switch name {
	case "wrong":
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the token is wrong")
	case "broken":
		return topics.Identity{}, fmt.Errorf("the database of hunter2 is down")
	case "otto":
		return topics.Identity{Name: name, Grants: []topics.Grant{{Room: "*", Role: topics.Observer}}}, nil
	case "":
		name = "guest1"
	}
	return bustest.PeerOf(name), nil
}

func (h *house) hold(*http.Request) (admit func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.held--
	}, nil
}

func open(t testing.TB, set func(*rest.Config)) *house {
	h := &house{t: t, bus: &bustest.Memory{Grace: 200 * time.Millisecond}}
	cfg := rest.Config{
		Connect:      h.bus.Connect,
		Authenticate: h.authenticate,
		Rooms:        func(topics.Identity) map[string]int { return map[string]int{"garage": 3, "attic": 1} },
		Peers: func(id topics.Identity, room string) ([]topics.Delivery, error) {
			if room == "cellar" {
				return nil, topics.Errorf(topics.Forbidden, "%s may not see who is in %s", id.Name, room)
			}
			return []topics.Delivery{{Address: topics.Address{Room: room, Kind: topics.Presence, Src: "cam1"}, Payload: []byte(`{"online":true,"name":"<b>"}`)}}, nil
		},
		Hold:        h.hold,
		HoldRequest: h.hold,
		Logger:      slog.New(slog.DiscardHandler),
	}
	if set != nil {
		set(&cfg)
	}
	var err error
	if h.Handler, err = rest.New(cfg); err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewServer(h.Handler)
	t.Cleanup(func() {
		h.Close()
		h.server.Close()
		h.server.Client().CloseIdleConnections()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.held != 0 {
			t.Errorf("%d connections were never admitted", h.held)
		}
	})
	return h
}

// ask sends a request with headers "Name: value".
func (h *house) ask(method, path, body string, headers ...string) (*http.Response, string) {
	h.t.Helper()
	r, err := http.NewRequest(method, h.server.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	setHeaders(r, headers)
	response, err := h.server.Client().Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response, string(text)
}

func setHeaders(r *http.Request, headers []string) {
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
}

// say posts a message of a peer in the garage.
func (h *house) say(as, text string) int {
	h.t.Helper()
	response, _ := h.ask("POST", "/api/v1/rooms/garage/peers/"+as+"/messages", text, "Content-Type: application/json", "Authorization: Bearer "+as)
	return response.StatusCode
}

// listener is the client of an event stream.
type listener struct {
	t      testing.TB
	name   string
	header http.Header
	events chan event
	cut    func()
	last   string // id
	done   chan struct{}
}

// event is a dispatched event, or a comment, whose data is ":".
type event struct{ id, data string }

// listen opens a stream of a peer in the garage, by that path and query.
func (h *house) listen(name, query string, headers ...string) *listener {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", h.server.URL+"/api/v1/rooms/garage/peers/"+name+"/events"+query, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	setHeaders(r, headers)
	response, err := h.server.Client().Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		h.t.Fatalf("%s does not get a stream: %s %s", name, response.Status, text)
	}
	l := &listener{t: h.t, name: name, header: response.Header, events: make(chan event, 10000), done: make(chan struct{})}
	l.cut = func() {
		cancel()
		<-l.done
	}
	go func() {
		defer close(l.done)
		defer response.Body.Close()
		l.read(response.Body)
	}()
	h.t.Cleanup(l.cut)
	return l
}

// read takes the stream apart (WHATWG HTML, 9.2.6).
func (l *listener) read(body io.Reader) {
	var e event
	var data []string
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch field, value, _ := strings.Cut(lines.Text(), ": "); {
		case lines.Text() == "":
			if e.data = strings.Join(data, "\n"); data != nil {
				l.events <- e
			}
			e.data, data = "", nil
		case field == ":":
			l.events <- event{data: ":"}
		case field == "id":
			e.id = value
		case field == "data":
			data = append(data, value)
		}
	}
}

// next is the next event that is no comment.
func (l *listener) next(what string) event {
	l.t.Helper()
	late := time.After(patience)
	for {
		select {
		case e := <-l.events:
			if e.data != ":" {
				l.last = e.id
				return e
			}
		case <-late:
			l.t.Fatalf("%s waited in vain for %s", l.name, what)
		}
	}
}

// hears demands that the next event has these words.
func (l *listener) hears(words ...string) event {
	l.t.Helper()
	e := l.next(strings.Join(words, " "))
	for _, w := range words {
		if !strings.Contains(e.data, w) {
			l.t.Fatalf("%s got %s, want %q in it", l.name, e.data, w)
		}
	}
	return e
}

// ends waits until the server has ended the stream.
func (l *listener) ends() {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(patience):
		l.t.Fatalf("the stream of %s does not end", l.name)
	}
}

// eventually waits until is holds, for what sends no event.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	late := time.Now().Add(patience)
	for !is() {
		if time.Now().After(late) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type joined struct {
	Type    string
	Peer    string
	Resume  string
	Resumed *bool
	Seen    int
	Peers   []struct{ Peer string }
}

func (l *listener) joined() (j joined) {
	l.t.Helper()
	e := l.hears(`"type":"joined"`)
	if err := json.Unmarshal([]byte(e.data), &j); err != nil {
		l.t.Fatal(err)
	}
	return j
}
