package bench

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// plainRelay hands every frame on to all others of the room in its URL's path.
func plainRelay(t *testing.T) (addr string) {
	t.Helper()
	var mu sync.Mutex // guards rooms, and writing
	rooms := make(map[string][]*websocket.Conn)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		ws, err := new(websocket.Upgrader).Upgrade(w, request, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		room := request.URL.Path
		mu.Lock()
		rooms[room] = append(rooms[room], ws)
		mu.Unlock()
		for {
			kind, frame, err := ws.ReadMessage()
			if err != nil {
				return
			}
			mu.Lock()
			for _, other := range rooms[room] {
				if other != ws {
					_ = other.WriteMessage(kind, frame)
				}
			}
			mu.Unlock()
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestRelayCarriesCallsAndFanoutAndEveryoneHearsOnlyHisOwn(t *testing.T) {
	var table bytes.Buffer
	program := Program{Stdout: &table, Stderr: &table}
	settings := func() Settings {
		return Settings{Target: Target{Server: plainRelay(t), Root: "rtc"}, Door: []string{doorRelay}, Timeout: 5 * time.Second, Quiet: true}
	}
	for _, command := range []interface {
		Validate() error
		Run(Program) error
	}{
		&Calls{Settings: settings(), Pairs: 3, Rooms: 1, Size: 2048, Duration: 100 * time.Millisecond},
		&Fanout{Settings: settings(), Receivers: 3, Window: 4, Size: 200, Duration: 100 * time.Millisecond},
		&Idle{Settings: settings(), Connections: 5, Hold: 10 * time.Millisecond},
	} {
		if err := command.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := command.Run(program); err != nil {
			t.Errorf("%v\n%s", err, &table)
		}
	}
}
