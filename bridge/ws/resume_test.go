package ws_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge/ws"
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

func TestWhoIsToldToGoDoesNotResume(t *testing.T) {
	h := open(t, func(c *ws.Config) { c.Resume = time.Hour })
	alice := h.dial(t)
	alice.send(`{"type":"join","room":"garage","peer":"alice","resume":true}`)
	resume := key(t, alice.want(`"type":"joined"`))
	alice.bye(1001)
	back := h.dial(t)
	back.send(fmt.Sprintf(`{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":1}`, resume))
	back.want(`"type":"joined"`, `"resumed":false`)
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
