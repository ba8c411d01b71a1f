package ws_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// onFakeTime runs test in a bubble, with a door over pipes.
func onFakeTime(t *testing.T, set func(*ws.Config), test func(*testing.T, *house)) {
	synctest.Test(t, func(t *testing.T) { test(t, openPipes(t, set)) })
}

func TestWithoutAJoinTheConnectionEndsAfterTenSecondsWith4510(t *testing.T) {
	threat.Row(t, 15, threat.JSON)
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		start := time.Now()
		c := h.dial(t)
		c.send(`{"type":"ping"}`)
		c.want("pong")
		if why := c.closed(4510); why != "no join came within 10s" {
			t.Errorf("the reason is %q", why)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestASilentConnectionIsCutWith4012AndCountsAsLost(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		bob := h.join(t, "bob")
		alice := h.join(t, "alice")
		bob.want(`"peer":"alice"`)
		var pings []time.Duration
		start := time.Now()
		alice.SetPingHandler(func(string) error {
			pings = append(pings, time.Since(start))
			return nil
		})
		gone := make(chan time.Duration)
		go func() { // and answers pings
			bob.want(`"peer":"alice"`, `"presence":null`)
			gone <- time.Since(start)
		}()
		alice.closed(4012)
		if took := time.Since(start); took != 60*time.Second || fmt.Sprint(pings) != "[1s 20s 40s]" {
			t.Errorf("it took %v, with pings after %v", took, pings)
		}
		if took := <-gone; took != 65*time.Second {
			t.Errorf("alice was gone after %v, want a grace of 5s", took)
		}
	})
}

func TestAConnectionThatAnswersPingsLives(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		bob, alice := h.join(t, "bob"), h.join(t, "alice")
		bob.want(`"peer":"alice"`)
		time.AfterFunc(10*time.Minute, func() { alice.send(`{"type":"msg"}`) })
		go func() { _, _, _ = alice.ReadMessage() }() // answers pings
		bob.want(`"from":"alice"`)
		alice.Close()
	})
}

func TestHowAClientClosesSaysWhetherItLeft(t *testing.T) {
	for code, grace := range map[int]time.Duration{
		websocket.CloseNormalClosure:    0,
		websocket.CloseGoingAway:        0,
		websocket.CloseNoStatusReceived: 0,
		websocket.CloseServiceRestart:   5 * time.Second,
		4000:                            5 * time.Second,
		0:                               5 * time.Second,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			onFakeTime(t, nil, func(t *testing.T, h *house) {
				bob, alice := h.join(t, "bob"), h.join(t, "alice")
				bob.want(`"peer":"alice"`)
				start := time.Now()
				alice.bye(code)
				bob.want(`"peer":"alice"`, `"presence":null`)
				if took := time.Since(start); took != grace {
					t.Errorf("alice was gone after %v, want %v", took, grace)
				}
			})
		})
	}
}

func TestAStalledReceiverIsCutWith4008AndOthersAreUnaffected(t *testing.T) {
	threat.Row(t, 19, threat.JSON)
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice, bob := h.join(t, "alice"), h.join(t, "bob")
		alice.want(`"peer":"bob"`)
		h.join(t, "stalled") // and reads nothing any more
		alice.want(`"peer":"stalled"`)
		bob.want(`"peer":"stalled"`)

		start := time.Now()
		for i := range 100 {
			alice.send(fmt.Sprintf(`{"type":"msg","id":%d}`, i))
			alice.want(fmt.Sprintf(`{"type":"ok","id":%d}`, i))
			bob.want(`"from":"alice"`)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the others waited for %v", took)
		}
		go func() { _, _, _ = bob.ReadMessage() }() // takes pings, or it would be slow, too
		alice.want(`"peer":"stalled"`, `"presence":null`)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it was gone after %v, want 5s and a grace of 5s", took)
		}
		if log := h.log.String(); !strings.Contains(log, `peer=stalled code=4008 why="too slow: nothing was taken for 5s"`) {
			t.Errorf("the log is\n%s", log)
		}
	})
}

func TestAFullQueueIsToldToSendersUntilThereIsRoom(t *testing.T) {
	onFakeTime(t, func(c *ws.Config) { c.Queue = 40000 }, func(t *testing.T, h *house) {
		alice, slow := h.join(t, "alice"), h.join(t, "slow")
		alice.want(`"peer":"slow"`)
		msg := func(id int) string {
			return fmt.Sprintf(`{"type":"msg","to":"slow","id":%d,"data":"%s"}`, id, strings.Repeat("x", 10000))
		}
		for i := range 4 {
			alice.send(msg(i))
			alice.want(fmt.Sprintf(`{"type":"ok","id":%d}`, i))
		}
		alice.send(msg(4))
		alice.want(`"id":4`, `"code":486`, `"to":"slow"`, `"about":"msg"`)
		for range 4 {
			slow.want(`"from":"alice"`)
		}
		synctest.Wait()
		alice.send(msg(5))
		alice.want(`{"type":"ok","id":5}`)
		slow.want(`"from":"alice"`)
	})
}

func TestARoomWithMorePeersThanTheQueueHoldsCanBeJoinedByWhoIsWaitedFor(t *testing.T) {
	onFakeTime(t, func(c *ws.Config) { c.Queue = 4000 }, func(t *testing.T, h *house) {
		alice, bob := h.join(t, "alice"), h.join(t, "bob")
		for i := range 20 {
			peer := h.dial(t)
			go func() {
				for _, _, err := peer.ReadMessage(); err == nil; _, _, err = peer.ReadMessage() {
				}
			}()
			peer.send(fmt.Sprintf(`{"type":"join","room":"garage","peer":"peer%d","presence":{"name":"%0300d"}}`, i, i))
			for _, c := range []*client{alice, bob} {
				c.skipTo(fmt.Sprintf(`"peer":"peer%d"`, i))
			}
		}
		alice.NetConn().Close()
		synctest.Wait()
		bob.send(`{"type":"msg","id":1,"to":"alice"}`)
		bob.skipTo(`{"type":"ok","id":1}`)
		bob.send(`{"type":"msg","id":2,"to":"alice"}`)
		bob.want(`{"type":"ok","id":2}`)
		back := h.dial(t)
		back.send(`{"type":"join","room":"garage","peer":"alice"}`)
		back.want(`"type":"joined"`)
		back.want(`"from":"bob"`)
		back.want(`"from":"bob"`)
	})
}

func TestAClientThatDoesNotReadItsAnswersIsClosedWith4008(t *testing.T) {
	onFakeTime(t, func(c *ws.Config) { c.Queue = 2000 }, func(t *testing.T, h *house) {
		alice := h.join(t, "alice")
		for range 100 {
			alice.send(`{"type":"ping"}`)
		}
		if why := alice.closed(4008); !strings.Contains(why, "too slow") {
			t.Errorf("the reason is %q", why)
		}
	})
}

func TestFramesThatWaitTogetherLeaveInOneWrite(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice, bob := h.join(t, "alice"), h.join(t, "bob")
		alice.want(`"peer":"bob"`)
		for range 50 {
			alice.send(`{"type":"msg","to":"bob"}`)
		}
		synctest.Wait()
		before := h.writes.Load()
		for range 50 {
			bob.want(`"from":"alice"`)
		}
		synctest.Wait()
		if n := h.writes.Load() - before; n > 1 {
			t.Errorf("%d writes were begun after the first one, for 49 messages", n)
		}
	})
}

func TestAFloodOfPingsIsAnsweredOnce(t *testing.T) {
	threat.Row(t, 12, threat.JSON)
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice := h.join(t, "alice")
		var pongs []string
		alice.SetPongHandler(func(p string) error {
			pongs = append(pongs, p)
			return nil
		})
		for i := range 1000 {
			if err := alice.WriteControl(websocket.PingMessage, fmt.Append(nil, i), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		alice.send(`{"type":"ping"}`)
		alice.want("pong")
		if len(pongs) > 2 || pongs[len(pongs)-1] != "999" {
			t.Errorf("it was answered with %v", pongs)
		}
	})
}

func TestADrainSpreadsTheConnections(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		start := time.Now()
		var clients []*client
		for i := range 10 {
			c := h.dial(t)
			c.send(fmt.Sprintf(`{"type":"join","room":"r%d","peer":"p%d"}`, i, i))
			c.want("joined")
			clients = append(clients, c)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		drained := make(chan error)
		go func() { drained <- h.Drain(ctx) }()
		when := make(chan int)
		for _, c := range clients {
			go func() {
				var in int
				if _, err := fmt.Sscanf(c.next(), `{"type":"goaway","reason":"shutdown","in":%d}`, &in); err != nil {
					t.Error(err)
				}
				c.closed(4001)
				took := time.Since(start)
				if took > time.Duration(in)*time.Second || took < time.Duration(in-1)*time.Second {
					t.Errorf("in %d it was closed after %v", in, took)
				}
				when <- int(took / (10 * time.Millisecond))
			}()
		}
		for i := range clients { // one in each 10 ms, though there were 30 s
			if got := <-when; got != i {
				t.Errorf("client %d was closed in part %d of the time", i, got)
			}
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

func TestWhoGoesWhenToldKeepsItsCalls(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice, bob := h.join(t, "alice"), h.join(t, "bob")
		alice.want(`"peer":"bob"`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() { _ = h.Drain(ctx) }()
		alice.want("goaway")
		bob.want("goaway")
		start := time.Now()
		bob.bye(websocket.CloseNormalClosure)
		_, frame, err := alice.ReadMessage()
		if took := time.Since(start); err == nil && (took != 5*time.Second || !strings.Contains(string(frame), `"presence":null`)) {
			t.Errorf("alice was told %s after %v, want a grace", frame, took)
		}
	})
}

func TestAMessageThatTricklesInDoesNotKeepAConnection(t *testing.T) {
	threat.Row(t, 15, threat.JSON)
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice := h.join(t, "alice")
		start := time.Now()
		trickled := make(chan struct{})
		go func() {
			defer close(trickled)
			// A text frame of 125 masked bytes, one a second.
			p := append([]byte{0x81, 0x80 | 125, 0, 0, 0, 0}, make([]byte, 125)...)
			for i := range p {
				if _, err := alice.NetConn().Write(p[i : i+1]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		alice.SetPingHandler(func(string) error { return nil })
		alice.closed(4012)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it took %v", took)
		}
		alice.Close()
		<-trickled
	})
}

func TestAQuietConnectionIsWaitedForOnAStackOfItsOwn(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice := h.join(t, "alice")
		pongs := make(chan struct{}, 100)
		alice.SetPingHandler(func(p string) error {
			pongs <- struct{}{}
			return alice.WriteControl(websocket.PongMessage, []byte(p), time.Now().Add(time.Hour))
		})
		read := make(chan string)
		go func() { read <- alice.next() }()
		for range 5 { // which is answered by pings and their answers only
			<-pongs
			time.Sleep(15 * time.Second)
			synctest.Wait()
			stack := *h.waiting.Load()
			if strings.Contains(stack, "gorilla") || !strings.Contains(stack, "created by github.com/beckon-rtc/beckon/bridge/ws.(*conn).run") {
				t.Fatalf("it is waited for by\n%s", stack)
			}
		}
		alice.send(`{"type":"ping"}`)
		if answer := <-read; !strings.Contains(answer, "pong") {
			t.Errorf("the answer is %s", answer)
		}
	})
}

func TestAFrameMayTakeLongerThanItTakesToBeQuiet(t *testing.T) {
	onFakeTime(t, nil, func(t *testing.T, h *house) {
		alice := h.join(t, "alice")
		alice.SetPingHandler(func(string) error { return nil }) // it would come between what is written here
		answers := make(chan string, 10)
		go func() {
			defer close(answers)
			for {
				_, answer, err := alice.ReadMessage()
				if err != nil {
					return
				}
				answers <- string(answer)
			}
		}()
		text := `{"type":"ping","id":1}`
		frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
		for _, b := range frame {
			if _, err := alice.NetConn().Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		pong := append([]byte{0x8a, 0x80 | 1, 0, 0, 0, 0}, '7')
		for _, part := range [][]byte{{0x01, 0x80 | 9, 0, 0, 0, 0}, []byte(`{"type":"`), pong, {0x80, 0x80 | 13, 0, 0, 0, 0}, []byte(`ping","id":2}`), pong, pong} {
			time.Sleep(5 * time.Second)
			if _, err := alice.NetConn().Write(part); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"pong", `"id":1`, "pong", `"id":2`} {
			if answer := <-answers; !strings.Contains(answer, want) {
				t.Errorf("the answer is %q, want %s", answer, want)
			}
		}
	})
}
