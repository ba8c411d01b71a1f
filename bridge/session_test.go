package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/topics"
)

// house is a bus in memory with sessions of an open door.
type house struct {
	cfg     bridge.Config
	clients map[string]*client
}

// client is the far end of a session.
type client struct {
	*bridge.Session
	mu     sync.Mutex // what the bus's timers may touch
	frames []string
	got    uint64 // frames that were read
	key    string // by which it is resumed
	full   bool
	ended  *topics.Error
}

func newHouse() *house {
	bus := &bustest.Memory{Grace: 5 * time.Second, Max: 65536}
	return &house{clients: map[string]*client{}, cfg: bridge.Config{
		Connect: bus.Connect, Root: topics.DefaultRoot, Via: "ws", MaxRooms: 3, Ping: 20 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
		// Like --dev, with a few special cases.
		Authenticate: func(_ context.Context, c topics.Credentials) (topics.Identity, error) {
			switch {
			case c.Token == "wrong":
				return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the token is wrong")
			case c.Token == "trouble":
				return topics.Identity{}, errors.New("secret trouble")
			case c.Token == "of zoe":
				return bustest.PeerOf("zoe"), nil
			case c.Token == "attic only":
				return topics.Identity{Name: c.Name, Grants: []topics.Grant{{Room: "attic", Role: topics.Peer}}}, nil
			case c.Name == "":
				return bustest.PeerOf("guest1"), nil
			}
			return bustest.PeerOf(c.Name), nil
		},
	}}
}

func (h *house) client(name string) *client {
	c := h.clients[name]
	if c == nil {
		c = new(client)
		c.Session = bridge.NewSession(&h.cfg, bridge.Client{
			Out: func(frame bridge.Frame) error {
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.full {
					return errors.New("full")
				}
				c.frames = append(c.frames, string(frame.Text()))
				return nil
			},
			End: func(why *topics.Error) { c.ended = why },
		})
		h.clients[name] = c
	}
	return c
}

// next takes the next frame that came, "" if there is none.
func (c *client) next() (frame string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) > 0 {
		frame, c.frames = c.frames[0], c.frames[1:]
		c.got++
	}
	return frame
}

// play goes through a script: "alice> frame" is sent by alice, "alice< frame"
// is what alice gets next, "alice! 409" is the end of its session, "alice. left"
// closes it, "alice. lost" too, for another reason, and "alice. cut" has it wait
// to be resumed with KEY@alice and SEEN@alice.
func (h *house) play(t *testing.T, script string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.IndexAny(line, "<>!.")
		c, rest := h.client(line[:at]), strings.TrimSpace(line[at+1:])
		switch line[at] {
		case '>':
			for name, c := range h.clients {
				rest = strings.ReplaceAll(rest, "KEY@"+name+`"`, c.key+`"`)
				rest = strings.ReplaceAll(rest, "SEEN@"+name+"}", fmt.Sprint(c.got)+"}")
			}
			c.Receive(t.Context(), []byte(rest))
		case '<':
			got := c.next()
			if !same(got, rest) {
				t.Fatalf("%s\n got %s\nwant %s", line[:at], got, rest)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("it is not JSON: %s", got)
			}
			if key := regexp.MustCompile(`"resume":"(.*)"`).FindStringSubmatch(got); key != nil {
				c.key = key[1]
			}
		case '!':
			if c.ended == nil || fmt.Sprint(int(c.ended.Code)) != rest {
				t.Fatalf("%s ended with %v, want %s", line[:at], c.ended, rest)
			}
			c.ended = nil
		case '.':
			if rest == "cut" {
				c.Lost()
				break
			}
			c.Seen(c.got)
			c.Close(rest == "left")
		}
	}
	for name, c := range h.clients {
		if more := c.next(); more != "" {
			t.Errorf("%s got more: %s", name, more)
		}
		if c.ended != nil {
			t.Errorf("%s ended with %v", name, c.ended)
		}
	}
}

// same compares a frame with what a script says, where ... stands for anything.
func same(got, want string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, "(?s:.*)")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}

const (
	aliceJoins = `
		alice> {"type":"join","room":"garage","peer":"alice"}
		alice< {"type":"joined","room":"garage","peer":"alice","peers":[],"iceServers":[{"urls":["stun:stun.example"]}],"ttl":3600,"max":65536,"ping":20,"resume":"..."}`
	bobJoins = `
		bob> {"type":"join","room":"garage","peer":"bob"}
		alice< {"type":"presence","room":"garage","peer":"bob","presence":{"online":true,"since":946684800,"via":"ws"}}
		bob< {"type":"joined","room":"garage","peer":"bob","peers":[{"peer":"alice","presence":{...}}],"iceServers":...}`
	both     = aliceJoins + bobJoins
	twoRooms = both + `
		alice> {"type":"join","room":"attic"}
		alice< {"type":"joined","room":"attic","peer":"alice","peers":[],...}`
)

func TestFramesInFramesOut(t *testing.T) {
	for name, script := range map[string]string{
		"a join is answered with who is there": aliceJoins + `
			bob> {"type":"join","id":1,"room":"garage","peer":"bob","presence":{"name":"Bob"}}
			alice< {"type":"presence","room":"garage","peer":"bob","presence":{"online":true,"name":"Bob","since":946684800,"via":"ws"}}
			bob< {"type":"joined","id":1,"room":"garage","peer":"bob","peers":[{"peer":"alice","presence":{"online":true,"since":946684800,"via":"ws"}}],"iceServers":[{"urls":["stun:stun.example"]}],"ttl":3600,"max":65536,"ping":20,"resume":"..."}`,
		"without a peer the identity's name counts": `
			anon> {"type":"join","room":"garage"}
			anon< {"type":"joined","room":"garage","peer":"guest1",...`,
		"a call goes to and fro": both + `
			alice> {"type":"offer","id":2,"to":"bob","session":"k3","sdp":"v=0\r\n"}
			bob< {"room":"garage","from":"alice","type":"offer","session":"k3","sdp":"v=0\r\n"}
			alice< {"type":"ok","id":2}
			bob> {"type":"answer","to":"alice","session":"k3","sdp":"v=0\r\n"}
			alice< {"room":"garage","from":"bob","type":"answer","session":"k3","sdp":"v=0\r\n"}
			bob> {"to":"alice", "type":"candidate", "session":"k3","candidate":"", "x": [1, 2]}
			alice< {"room":"garage","from":"bob","type":"candidate", "session":"k3","candidate":"", "x": [1, 2]}
			alice> {"type":"bye","room":"garage","to":"bob","session":"k3","reason":"hangup","id":"é\u00e9"}
			bob< {"room":"garage","from":"alice","type":"bye","session":"k3","reason":"hangup"}
			alice< {"type":"ok","id":"é\u00e9"}`,
		"without to all others get it": both + `
			alice> {"type":"msg","id":-1.5e3,"data":"hi"}
			bob< {"room":"garage","from":"alice","all":true,"type":"msg","data":"hi"}
			alice< {"type":"ok","id":-1.5e3}`,
		"members of a message with names of a join are the message's": both + `
			alice> {"type":"x-y","to":"bob","peer":1,"token":[],"token":2,"presence":null}
			bob< {"room":"garage","from":"alice","type":"x-y","peer":1,"token":[],"token":2,"presence":null}`,
		"the server is asked for ICE servers": aliceJoins + `
			alice> {"type":"ice","id":3,"to":"_"}
			alice< {"room":"garage","from":"_","type":"ice","iceServers":[],"ttl":3600}
			alice< {"type":"ok","id":3}`,
		"who is not there is 404, with the id": aliceJoins + `
			alice> {"type":"offer","id":4,"to":"bob","session":"k3","sdp":""}
			alice< {"room":"garage","id":4,"type":"error","code":404,"reason":"not-found","message":"...","temporary":false,"session":"k3","to":"bob","about":"offer"}
			alice> {"type":"offer","to":"bob","session":"k3","sdp":""}
			alice< {"room":"garage","type":"error","code":404,..."about":"offer"}`,
		"presence is updated": both + `
			alice> {"type":"presence","id":5,"presence":{"muted":true}}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{"online":true,"muted":true,"since":946684800,"via":"ws"}}
			alice< {"type":"ok","id":5}
			alice> {"type":"presence","presence":{}}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{"online":true,"since":946684800,"via":"ws"}}`,
		"a malformed presence is 400 or 413": aliceJoins + `
			alice> {"type":"presence","id":1}
			alice< {"room":"garage","id":1,"type":"error","code":400,...
			alice> {"type":"presence","id":2,"presence":null}
			alice< {"room":"garage","id":2,"type":"error","code":400,...send leave...
			alice> {"type":"presence","id":3,"presence":[]}
			alice< {"room":"garage","id":3,"type":"error","code":400,...
			alice> {"type":"presence","id":4,"presence":{"online":1}}
			alice< {"room":"garage","id":4,"type":"error","code":400,...
			alice> {"type":"presence","id":5,"presence":{},"presence":{}}
			alice< {"id":5,"type":"error","code":400,...twice...
			alice> {"type":"presence","id":6,"presence":{"x":"` + strings.Repeat("x", 4096) + `"}}
			alice< {"room":"garage","id":6,"type":"error","code":413,...`,
		"leave is a leave": both + `
			alice> {"type":"leave","id":6,"room":"garage"}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":null}
			alice< {"type":"ok","id":6}
			bob> {"type":"msg"}
			alice> {"type":"msg","id":7}
			alice< {"id":7,"type":"error","code":403,...`,
		"a presence that is offline is a leave": both + `
			alice> {"type":"presence","id":6,"presence":{"online":false}}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":null}
			alice< {"type":"ok","id":6}
			alice> {"type":"msg"}
			alice< {"type":"error","code":403,...`,
		"who left may come back": both + `
			alice> {"type":"leave"}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":null}
			alice> {"type":"join","room":"garage","id":8}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{...}}
			alice< {"type":"joined","id":8,"room":"garage","peer":"alice","peers":[{"peer":"bob",...`,
		"joining again tells again and keeps the presence": both + `
			alice> {"type":"presence","presence":{"name":"A"}}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{"online":true,"name":"A",...
			alice> {"type":"join","room":"garage","id":9}
			alice< {"type":"joined","id":9,"room":"garage","peer":"alice","peers":[{"peer":"bob","presence":{...}}],"iceServers":[{...
			alice> {"type":"join","room":"garage","presence":{"name":"B"}}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{"online":true,"name":"B",...
			alice< {"type":"joined","room":"garage",...
			bob> {"type":"msg"}
			alice< {"room":"garage","from":"bob","all":true,"type":"msg"}`,
		"ping is answered": `
			alice> {"type":"ping"}
			alice< {"type":"pong"}
			alice> {"type":"ping","id":"a"}
			alice< {"type":"pong"}
			alice< {"type":"ok","id":"a"}`,
		"refresh is refused in words": aliceJoins + `
			alice> {"type":"refresh","id":1,"token":"t"}
			alice< {"id":1,"type":"error","code":403,"reason":"forbidden","message":"this server does not refresh...
			alice> {"type":"refresh","id":2}
			alice< {"id":2,"type":"error","code":400,...
			alice> {"type":"refresh","id":3,"token":5}
			alice< {"id":3,"type":"error","code":400,...`,
		"before join everything but join and ping is 403": `
			alice> {"type":"msg","id":1}
			alice< {"id":1,"type":"error","code":403,"reason":"forbidden","message":"no room is joined; send join first","temporary":false,"about":"msg"}
			alice> {"type":"leave","id":2,"room":"garage"}
			alice< {"room":"garage","id":2,"type":"error","code":403,...
			alice> {"type":"presence","presence":{}}
			alice< {"type":"error","code":403,...
			alice> {"type":"refresh","token":"t"}
			alice< {"type":"error","code":403,...`,
		"what is no frame is 400": aliceJoins + `
			alice> nonsense
			alice< {"type":"error","code":400,"reason":"bad-request",...
			alice> []
			alice< {"type":"error","code":400,...
			alice> {"type":"msg","id":1,"data":}
			alice< {"id":1,"type":"error","code":400,...
			alice> {"id":2}
			alice< {"id":2,"type":"error","code":400,...
			alice> {"id":3,"type":5}
			alice< {"id":3,"type":"error","code":400,...
			alice> {"id":4,"type":"unheard-of"}
			alice< {"room":"garage","id":4,"type":"error","code":400,...
			alice> {"id":5,"type":"hello"}
			alice< {"room":"garage","id":5,"type":"error","code":400,...
			alice> {"id":6,"type":"offer","sdp":""}
			alice< {"room":"garage","id":6,"type":"error","code":400,..."about":"offer"}
			alice> {"id":7,"type":"joined"}
			alice< {"room":"garage","id":7,"type":"error","code":400,...`,
		"text that is not UTF-8 is 400": aliceJoins + "\nalice> {\"type\":\"msg\",\"data\":\"\xff\"}\n" + `
			alice< {"type":"error","code":400,...`,
		"from and all are the server's": aliceJoins + `
			alice> {"type":"msg","id":1,"from":"alice"}
			alice< {"id":1,"type":"error","code":400,...
			alice> {"type":"msg","id":2,"all":true}
			alice< {"id":2,"type":"error","code":400,...
			alice> {"type":"join","id":3,"room":"attic","from":"bob"}
			alice< {"room":"attic","id":3,"type":"error","code":400,...
			alice> {"type":"msg","id":4,"fr\u006fm":"bob"}
			alice< {"id":4,"type":"error","code":400,...`,
		"routing members are not given twice": both + `
			alice> {"type":"msg","id":1,"to":"bob","to":"bob"}
			alice< {"id":1,"type":"error","code":400,...
			alice> {"type":"msg","room":"garage","room":"garage","id":2}
			alice< {"room":"garage","id":2,"type":"error","code":400,...
			alice> {"type":"msg","id":3,"id":3}
			alice< {"id":3,"type":"error","code":400,...
			alice> {"type":"msg","type":"msg","id":4}
			alice< {"id":4,"type":"error","code":400,...
			alice> {"type":"join","room":"attic","peer":"alice","peer":"alice"}
			alice< {"room":"attic","type":"error","code":400,...`,
		"routing members are names": aliceJoins + `
			alice> {"type":"msg","id":1,"to":"b/b"}
			alice< {"id":1,"type":"error","code":400,...
			alice> {"type":"msg","id":2,"to":null}
			alice< {"id":2,"type":"error","code":400,...
			alice> {"type":"msg","id":3,"room":"#"}
			alice< {"id":3,"type":"error","code":400,...
			alice> {"type":"msg","id":4,"room":""}
			alice< {"id":4,"type":"error","code":400,...
			alice> {"type":"msg","id":5,"to":"+"}
			alice< {"id":5,"type":"error","code":400,...
			alice> {"type":"join","id":6}
			alice< {"id":6,"type":"error","code":400,...
			alice> {"type":"join","id":7,"room":"_"}
			alice< {"id":7,"type":"error","code":400,...`,
		"an id is a number or a text of 64 characters": aliceJoins + `
			alice> {"type":"ping","id":null}
			alice< {"type":"error","code":400,...
			alice> {"type":"ping","id":{}}
			alice< {"type":"error","code":400,...
			alice> {"type":"ping","id":true}
			alice< {"type":"error","code":400,...
			alice> {"type":"ping","id":"` + strings.Repeat("x", 65) + `"}
			alice< {"type":"error","code":400,...
			alice> {"type":"ping","id":` + strings.Repeat("9", 65) + `}
			alice< {"type":"error","code":400,...
			alice> {"type":"ping","id":"` + strings.Repeat("é", 64) + `"}
			alice< {"type":"pong"}
			alice< {"type":"ok","id":"` + strings.Repeat("é", 64) + `"}
			alice> {"type":"ping","id":"` + strings.Repeat(`\u00e9`, 64) + `"}
			alice< {"type":"pong"}
			alice< {"type":"ok","id":"` + strings.Repeat(`\u00e9`, 64) + `"}`,
		"an unknown room is 403, and none of several is 400": twoRooms + `
			alice> {"type":"msg","id":1,"room":"cellar"}
			alice< {"room":"cellar","id":1,"type":"error","code":403,...
			alice> {"type":"msg","id":2}
			alice< {"id":2,"type":"error","code":400,...
			alice> {"type":"leave","id":3}
			alice< {"id":3,"type":"error","code":400,...
			alice> {"type":"msg","id":4,"room":"garage","to":"bob"}
			bob< {"room":"garage","from":"alice","type":"msg"}
			alice< {"type":"ok","id":4}
			alice> {"type":"msg","id":5,"room":"attic","to":"bob"}
			alice< {"room":"attic","id":5,"type":"error","code":404,...
			alice> {"type":"leave","room":"attic"}
			alice> {"type":"msg","to":"bob"}
			bob< {"room":"garage","from":"alice","type":"msg"}`,
		"more rooms than allowed are 486": twoRooms + `
			alice> {"type":"join","room":"cellar"}
			alice< {"type":"joined","room":"cellar",...
			alice> {"type":"join","id":1,"room":"roof"}
			alice< {"room":"roof","id":1,"type":"error","code":486,"reason":"busy",...
			alice> {"type":"join","id":2,"room":"cellar"}
			alice< {"type":"joined","id":2,...`,
		"a wrong token ends the connection": `
			alice> {"type":"join","id":1,"room":"garage","peer":"alice","token":"wrong"}
			alice< {"room":"garage","id":1,"type":"error","code":401,"reason":"unauthorized","message":"the token is wrong","temporary":false,"about":"join"}
			alice! 401
			alice> {"type":"ping"}`,
		"trouble of the server is not shown": `
			alice> {"type":"join","id":1,"room":"garage","token":"trouble"}
			alice< {"room":"garage","id":1,"type":"error","code":500,"reason":"internal","message":"the server failed; its log says more",...
			alice! 500`,
		"a token of another peer ends the connection": `
			alice> {"type":"join","id":1,"room":"garage","peer":"alice","token":"of zoe"}
			alice< {"room":"garage","id":1,"type":"error","code":403,...
			alice! 403`,
		"a room beyond the grant leaves the connection as it was": aliceJoins + `
			bob> {"type":"join","id":1,"room":"garage","peer":"bob","token":"attic only"}
			bob< {"room":"garage","id":1,"type":"error","code":403,...
			bob> {"type":"msg","id":2}
			bob< {"id":2,"type":"error","code":403,...
			bob> {"type":"join","id":3,"room":"attic"}
			bob< {"type":"joined","id":3,"room":"attic","peer":"bob",...`,
		"a later join as somebody else is 403": aliceJoins + `
			alice> {"type":"join","id":1,"room":"attic","peer":"bob"}
			alice< {"room":"attic","id":1,"type":"error","code":403,...
			alice> {"type":"join","id":2,"room":"attic","peer":"alice","token":"wrong"}
			alice< {"type":"joined","id":2,"room":"attic",...`,
		"a malformed join is 400 and the next may be better": `
			alice> {"type":"join","id":1,"room":"garage","peer":"_"}
			alice< {"room":"garage","id":1,"type":"error","code":400,...
			alice> {"type":"join","id":2,"room":"garage","peer":5}
			alice< {"room":"garage","id":2,"type":"error","code":400,...
			alice> {"type":"join","id":3,"room":"garage","token":5}
			alice< {"room":"garage","id":3,"type":"error","code":400,...
			alice> {"type":"join","id":4,"room":"garage","presence":5}
			alice< {"room":"garage","id":4,"type":"error","code":400,...
			alice> {"type":"join","id":5,"room":"garage","presence":{"online":false}}
			alice< {"room":"garage","id":5,"type":"error","code":400,...` + aliceJoins,
		"a connection that is replaced everywhere ends": both + `
			alice2> {"type":"join","room":"garage","peer":"alice"}
			alice< {"room":"garage","type":"error","code":409,"reason":"replaced",...
			alice! 409
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{"online":true,...
			alice2< {"type":"joined","room":"garage","peer":"alice","peers":[{"peer":"bob",...
			bob> {"type":"msg","to":"alice"}
			alice2< {"room":"garage","from":"bob","type":"msg"}
			alice. lost
			alice2> {"type":"msg","to":"bob"}
			bob< {"room":"garage","from":"alice","type":"msg"}`,
		"a connection that is replaced in one room stays in the other": twoRooms + `
			alice2> {"type":"join","room":"attic","peer":"alice"}
			alice< {"room":"attic","type":"error","code":409,...
			alice2< {"type":"joined","room":"attic",...
			alice> {"type":"msg","room":"attic","id":1}
			alice< {"room":"attic","id":1,"type":"error","code":403,...
			alice> {"type":"msg","id":2}
			bob< {"room":"garage","from":"alice","all":true,"type":"msg"}
			alice< {"type":"ok","id":2}`,
		"who left is gone, with a bye for what was open": both + `
			alice> {"type":"start","to":"bob","session":"k3"}
			bob< {"room":"garage","from":"alice","type":"start","session":"k3"}
			alice. left
			bob< {"room":"garage","from":"alice","type":"bye","session":"k3","reason":"gone"}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":null}
			alice> {"type":"ping"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newHouse().play(t, script) })
		})
	}
}

func TestALostConnectionFindsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, both+`
			alice. lost
			bob> {"type":"msg","to":"alice","id":1}
			bob< {"type":"ok","id":1}`)
		time.Sleep(4 * time.Second)
		h.play(t, `
			back> {"type":"join","room":"garage","peer":"alice"}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":{"online":true,...
			back< {"type":"joined","room":"garage","peer":"alice","peers":[{"peer":"bob",...
			back< {"room":"garage","from":"bob","type":"msg"}
			back. lost
			bob> {"type":"offer","to":"alice","id":2,"session":"k4","sdp":""}
			bob< {"type":"ok","id":2}`)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		h.play(t, `
			bob< {"room":"garage","from":"alice","type":"bye","session":"k4","reason":"gone"}
			bob< {"room":"garage","type":"error","code":480,"reason":"offline",..."session":"k4","to":"alice","about":"offer"}
			bob< {"type":"presence","room":"garage","peer":"alice","presence":null}`)
	})
}

func TestAFullQueueIsToldToTheSenderOfAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, both)
		h.client("bob").full = true
		h.play(t, `
			alice> {"type":"msg","to":"bob","id":1}
			alice< {"room":"garage","id":1,"type":"error","code":486,"reason":"busy",..."to":"bob","about":"msg"}`)
		h.client("bob").full = false
		h.play(t, `
			alice> {"type":"msg","to":"bob","id":2}
			bob< {"room":"garage","from":"alice","type":"msg"}
			alice< {"type":"ok","id":2}`)
	})
}

func TestWhatAClientCannotDoWithoutEndsItWhenItDoesNotFit(t *testing.T) {
	for name, script := range map[string]string{
		"presence": `
			alice> {"type":"presence","presence":{}}
			bob! 486`,
		"its own answers": `
			bob> {"type":"ping"}
			bob! 486`,
		"a takeover": `
			bob2> {"type":"join","room":"garage","peer":"bob"}
			bob! 486
			alice< {"type":"presence",...
			bob2< {"type":"joined",...`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse()
				h.play(t, both)
				h.client("bob").full = true
				h.play(t, script)
			})
		})
	}
}

func TestARefusedFrameIsAnsweredWithItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, aliceJoins)
		long := `{"type":"offer","id":7,"to":"bob","session":"k3","sdp":"` + strings.Repeat("€", 100)
		h.client("alice").Refuse([]byte(long[:len(long)-1]), topics.Errorf(topics.TooLarge, "too long"))
		h.play(t, `
			alice< {"id":7,"type":"error","code":413,"reason":"too-large","message":"too long","temporary":false,"session":"k3","to":"bob","about":"offer"}`)
	})
}

func TestExactlyOneOKOrErrorPerID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, both)
		alice := h.client("alice")
		frames := []string{
			`{"type":"join","id":%d,"room":"garage"}`, `{"type":"join","id":%d,"room":"attic"}`, `{"type":"join","id":%d,"room":"a/b"}`,
			`{"type":"join","id":%d}`, `{"type":"leave","id":%d,"room":"attic"}`, `{"type":"leave","id":%d,"room":"attic"}`,
			`{"type":"presence","id":%d,"presence":{}}`, `{"type":"presence","id":%d}`, `{"type":"ping","id":%d}`,
			`{"type":"refresh","id":%d,"token":"t"}`, `{"type":"msg","id":%d}`, `{"type":"msg","id":%d,"to":"bob"}`,
			`{"type":"msg","id":%d,"to":"nobody"}`, `{"type":"offer","id":%d,"to":"bob"}`, `{"type":"nonsense","id":%d}`,
			`{"id":%d}`, `{"type":"ice","id":%d,"to":"_"}`, `{"type":"msg","id":%d,"from":"x"}`, `{"type":"msg","id":%d,`,
		}
		for i, f := range frames {
			alice.Receive(t.Context(), fmt.Appendf(nil, f, i))
			answers := 0
			for _, out := range alice.frames {
				var got struct {
					Type string
					ID   *int
				}
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Fatalf("%s: %v", out, err)
				}
				if got.ID != nil && *got.ID == i {
					answers++
				}
			}
			if answers != 1 {
				t.Errorf("%s was answered %d times: %q", f, answers, alice.frames)
			}
			alice.frames = nil
		}
	})
}

func TestAConfigTellsAllThatIsWrong(t *testing.T) {
	err := (&bridge.Config{Root: "a/b/c", MaxRooms: -1}).Check()
	for _, part := range []string{"Connect", "Authenticate", "Logger", "MaxRooms", "root"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not tell of %s", err, part)
		}
	}
}

// deaf is a bus on which subscribing fails.
type deaf struct{ bridge.Bus }

func (deaf) Subscribe(...string) error {
	return topics.Errorf(topics.Unavailable, "no subscriptions today")
}

func TestAJoinThatFailsHalfwayIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, aliceJoins)
		connect := h.cfg.Connect
		h.cfg.Connect = func(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
			bus, err := connect(id, via, inbox)
			return deaf{bus}, err
		}
		h.play(t, `
			bob> {"type":"join","id":1,"room":"garage","peer":"bob"}
			alice< {"type":"presence","room":"garage","peer":"bob","presence":{"online":true,...
			alice< {"type":"presence","room":"garage","peer":"bob","presence":null}
			bob< {"room":"garage","id":1,"type":"error","code":503,"reason":"unavailable",..."about":"join"}
			bob> {"type":"msg","id":2}
			bob< {"id":2,"type":"error","code":403,...`)
	})
}

func TestARefreshGoesToTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.cfg.Refresh = func(_ context.Context, bus bridge.Bus, c topics.Credentials) error {
			if bus == nil || c.Token != "new" || c.Name != "alice" {
				return topics.Errorf(topics.Unauthorized, "no")
			}
			return nil
		}
		h.play(t, twoRooms+`
			alice> {"type":"refresh","id":1,"token":"new"}
			alice< {"type":"ok","id":1}
			alice> {"type":"refresh","id":2,"token":"old"}
			alice< {"id":2,"type":"error","code":401,...`)
	})
}
