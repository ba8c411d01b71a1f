package ws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/topics"
)

// key is that of the session that a "joined" tells of.
func key(t *testing.T, joined string) string {
	t.Helper()
	var m struct{ Resume string }
	if err := json.Unmarshal([]byte(joined), &m); err != nil || m.Resume == "" {
		t.Fatalf("no key in %s", joined)
	}
	return m.Resume
}

func TestAClientThatWasCutOffGetsWhatItMissedAndNobodySawItGo(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice := h.dial(t)
		alice.send(`{"type":"join","room":"garage","peer":"alice","resume":true}`)
		resume := key(t, alice.want(`"type":"joined"`))
		bob := h.join(t, "bob")
		alice.want(`"peer":"bob"`)
		alice.NetConn().Close()
		bob.send(`{"type":"offer","id":1,"to":"alice","session":"k3","sdp":""}`)
		bob.want(`"type":"ok"`)
		bob.send(`{"type":"candidate","id":2,"to":"alice","session":"k3","candidate":""}`)
		bob.want(`"type":"ok"`)
		bob.bye(1000)
		time.Sleep(28 * time.Second)
		carol := h.dial(t)
		carol.send(`{"type":"join","room":"garage","peer":"carol"}`)
		carol.want(`"type":"joined"`, `"peer":"alice","presence":{"online":true`)
		back := h.dial(t)
		back.send(fmt.Sprintf(`{"type":"join","room":"garage","resume":%q,"seen":2}`, resume))
		back.want(`"type":"joined"`, `"resumed":true`, `"seen":2`)
		back.want(`"type":"offer"`)
		back.want(`"type":"candidate"`)
		back.want(`"type":"bye"`, `"reason":"gone"`)
		back.want(`"peer":"bob","presence":null`)
		back.want(`"peer":"carol","presence":{`)
		back.send(`{"type":"msg","to":"carol"}`)
		carol.want(`"type":"msg"`) // and no presence before it
	})
}

func TestWhatAClientHasAnsweredAPingAfterIsNotSaidAgain(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		bob, alice := h.join(t, "bob"), h.join(t, "alice")
		bob.want(`"peer":"alice"`)
		bob.send(`{"type":"msg","to":"alice","data":1}`)
		go func() { // it reads, and answers pings
			defer alice.NetConn().Close()
			alice.want(`"data":1`)
			alice.want(`"data":2`)
		}()
		time.Sleep(2 * time.Second)
		bob.send(`{"type":"msg","to":"alice","data":2}`)
		time.Sleep(time.Second / 2) // too soon for the next ping
		again := h.dial(t)
		again.send(`{"type":"join","room":"garage","peer":"alice"}`)
		again.want(`"type":"joined"`)
		again.want(`"data":2`)
	})
}

func TestWhoIsNotToComeAgainDoesNotResume(t *testing.T) {
	for name, c := range map[string]struct {
		ends    func(*client)
		resumed bool
	}{
		"it left":             {func(c *client) { c.bye(1001) }, false},
		"it closed otherwise": {func(c *client) { c.bye(4000) }, true},
		"it was cut":          {func(c *client) { c.NetConn().Close() }, true},
		"it broke a rule": {func(c *client) {
			if err := c.WriteMessage(websocket.BinaryMessage, nil); err != nil {
				c.t.Error(err)
			}
			c.closed(4501)
		}, false},
		"it was replaced": {func(c *client) { c.closed(4511) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, nil, func(t *testing.T, h *house) {
				alice := h.dial(t)
				alice.send(`{"type":"join","room":"garage","peer":"alice","resume":true}`)
				resume := key(t, alice.want(`"type":"joined"`))
				if name == "it was replaced" {
					h.join(t, "alice")
				}
				c.ends(alice)
				synctest.Wait()
				back := h.dial(t)
				back.send(fmt.Sprintf(`{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":1}`, resume))
				back.want(`"type":"joined"`, fmt.Sprintf(`"resumed":%v`, c.resumed))
			})
		})
	}
}

func TestWhoIsToldToGoHasTheGraceOnly(t *testing.T) {
	for name, ends := range map[string]func(*client){
		"and is cut":              func(c *client) { c.NetConn().Close() },
		"and waits for the close": func(c *client) { c.closed(4001) },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, nil, func(t *testing.T, h *house) {
				gone := make(chan time.Time, 1)
				bob, err := h.bus.Connect(bustest.PeerOf("bob"), "mqtt", bridge.InboxFunc(func(d topics.Delivery) error {
					if d.Src == "alice" && len(d.Payload) == 0 {
						gone <- time.Now()
					}
					return nil
				}))
				if err != nil {
					t.Fatal(err)
				}
				defer bob.Close(true)
				if err := bob.Subscribe("rtc/v1/garage/peers/+"); err != nil {
					t.Fatal(err)
				}
				alice := h.dial(t)
				alice.send(`{"type":"join","room":"garage","peer":"alice","resume":true}`)
				alice.want(`"type":"joined"`)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				drained := make(chan error)
				go func() { drained <- h.Drain(ctx) }()
				alice.want(`"type":"goaway"`)
				ends(alice)
				if err := <-drained; err != nil {
					t.Error(err)
				}
				ended := time.Now()
				if took := (<-gone).Sub(ended); took > 5*time.Second {
					t.Errorf("alice was there for %v more, the grace is 5 s", took)
				}
			})
		})
	}
}

func TestWhoMissedMoreThanFitsIntoTheQueueJoinsAnew(t *testing.T) {
	onFakeTime(t, func(c *ws.Config) { c.Queue = 40_000 }, func(t *testing.T, h *house) {
		alice := h.dial(t)
		alice.send(`{"type":"join","room":"garage","peer":"alice","resume":true}`)
		resume := key(t, alice.want(`"type":"joined"`))
		bob := h.join(t, "bob")
		alice.want(`"peer":"bob"`)
		alice.NetConn().Close()
		for i := range 10 {
			bob.send(fmt.Sprintf(`{"type":"msg","id":%d,"to":"alice","data":"%010000d"}`, i, 0))
			bob.want(`"type":"ok"`)
		}
		back := h.dial(t)
		back.send(fmt.Sprintf(`{"type":"join","id":7,"room":"garage","peer":"alice","resume":%q,"seen":2}`, resume))
		back.want(`"type":"joined"`, `"id":7`, `"resumed":false`)
		arrived := 0
		for back.send(`{"type":"ping"}`); strings.Contains(back.next(), `"from":"bob"`); {
			arrived++
		}
		told := 0
		for bob.send(`{"type":"ping"}`); !strings.Contains(bob.next(), "pong"); {
			told++
		}
		if told--; arrived == 0 || arrived+told != 10 { // and there was a presence
			t.Errorf("of ten messages %d arrived and %d were told of", arrived, told)
		}
	})
}
