package bridge_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

func TestResuming(t *testing.T) {
	const long = `
		alice> {"type":"join","room":"garage","peer":"alice","resume":true}
		alice< {"type":"joined",...,"resume":"..."}` + bobJoins
	for name, script := range map[string]string{
		"what was missed comes in order, after the answer": long + `
			alice. cut
			bob> {"type":"offer","to":"alice","session":"k3","sdp":""}
			bob> {"type":"msg","data":1}
			bob> {"type":"candidate","to":"alice","session":"k3","candidate":""}
			back> {"type":"join","id":7,"room":"garage","peer":"alice","resume":"KEY@alice","seen":SEEN@alice}
			back< {"type":"joined","id":7,"room":"garage","peer":"alice","resumed":true,"seen":2,"ping":20,"resume":"..."}
			back< {"room":"garage","from":"bob","type":"offer","session":"k3","sdp":""}
			back< {"room":"garage","from":"bob","all":true,"type":"msg","data":1}
			back< {"room":"garage","from":"bob","type":"candidate","session":"k3","candidate":""}
			back> {"type":"answer","to":"bob","session":"k3","sdp":""}
			bob< {"room":"garage","from":"alice","type":"answer","session":"k3","sdp":""}`,
		"frames that were sent and did not arrive come again": long + `
			bob> {"type":"msg","to":"alice","data":1}
			bob> {"type":"msg","to":"alice","data":2}
			alice< {"room":"garage","from":"bob","type":"msg","data":1}
			alice. cut
			bob> {"type":"msg","to":"alice","data":3}
			back> {"type":"join","room":"garage","resume":"KEY@alice","seen":SEEN@alice}
			alice< {"room":"garage","from":"bob","type":"msg","data":2}
			back< {"type":"joined",..."resumed":true,"seen":3,...
			back< {"room":"garage","from":"bob","type":"msg","data":2}
			back< {"room":"garage","from":"bob","type":"msg","data":3}`,
		"a client that does not say what it has gets all that is remembered": long + `
			alice. cut
			back> {"type":"join","room":"garage","resume":"KEY@alice"}
			back< {"type":"joined",..."resumed":true,"seen":0,...
			back< {"type":"joined",..."peers":[]...
			back< {"type":"presence",...`,
		"a connection that is not known to be lost is replaced": long + `
			back> {"type":"join","room":"garage","resume":"KEY@alice","seen":SEEN@alice}
			back< {"type":"joined",..."resumed":true,...
			alice! 409
			bob> {"type":"msg","to":"alice","id":1}
			bob< {"type":"ok","id":1}
			back< {"room":"garage","from":"bob","type":"msg"}
			alice. lost
			bob> {"type":"msg","to":"alice"}
			back< {"room":"garage","from":"bob","type":"msg"}`,
		"it goes on to be resumed": long + `
			alice. cut
			back> {"type":"join","room":"garage","resume":"KEY@alice","seen":SEEN@alice}
			back< {"type":"joined",..."resumed":true,"seen":2,...
			back. cut
			bob> {"type":"msg","to":"alice"}
			third> {"type":"join","room":"garage","resume":"KEY@alice","seen":2}
			third< {"type":"joined",..."resumed":true,...
			third< {"room":"garage","from":"bob","type":"msg"}`,
		"an unknown key is a join like any other, and says so": long + `
			carol> {"type":"join","room":"garage","peer":"carol","resume":"nonsense","seen":5}
			alice< {"type":"presence",...
			bob< {"type":"presence",...
			carol< {"type":"joined","room":"garage","peer":"carol","resumed":false,"peers":[{"peer":...},{"peer":...}],...`,
		"more frames than there were is a gap": long + `
			alice. cut
			back> {"type":"join","room":"garage","peer":"alice","resume":"KEY@alice","seen":99}
			bob< {"type":"presence",...
			back< {"type":"joined",..."resumed":false,"peers":[{"peer":"bob",...`,
		"somebody else's key is of no use": long + `
			alice. cut
			zoe> {"type":"join","room":"garage","token":"of zoe","resume":"KEY@alice"}
			bob< {"type":"presence","room":"garage","peer":"zoe",...
			zoe< {"type":"joined",..."peer":"zoe","resumed":false,...
			back> {"type":"join","room":"garage","resume":"KEY@alice","seen":2}
			back< {"type":"joined",..."peer":"alice","resumed":true,...
			back< {"type":"presence","room":"garage","peer":"zoe",...`,
		"a wrong token does not resume": long + `
			alice. cut
			back> {"type":"join","room":"garage","token":"wrong","resume":"KEY@alice"}
			back< {"room":"garage","type":"error","code":401,...
			back! 401`,
		"a peer who left cannot resume": long + `
			alice. left
			bob< {"type":"presence","room":"garage","peer":"alice","presence":null}
			back> {"type":"join","room":"garage","peer":"alice","resume":"KEY@alice","seen":2}
			bob< {"type":"presence",...
			back< {"type":"joined",..."resumed":false,...`,
		"another room than those that were joined is joined anew": long + `
			alice. cut
			back> {"type":"join","room":"attic","peer":"alice","resume":"KEY@alice","seen":2}
			back< {"type":"joined","room":"attic","peer":"alice","resumed":false,...`,
		"what the client has does not come again when it is not resumed": long + `
			bob> {"type":"msg","to":"alice","data":1}
			bob> {"type":"msg","to":"alice","data":2}
			alice< {"room":"garage","from":"bob","type":"msg","data":1}
			alice. cut
			back> {"type":"join","room":"attic","peer":"alice","resume":"KEY@alice","seen":SEEN@alice}
			alice< {"room":"garage","from":"bob","type":"msg","data":2}
			back< {"type":"joined","room":"attic","peer":"alice","resumed":false,...
			back> {"type":"join","room":"garage"}
			bob< {"type":"presence",...
			back< {"type":"joined","room":"garage","peer":"alice","peers":[{"peer":"bob",...
			back< {"room":"garage","from":"bob","type":"msg","data":2}`,
		"nonsense is 400": `
			alice> {"type":"join","room":"garage","resume":7}
			alice< {"room":"garage","type":"error","code":400,..."message":"\"resume\" must be true, or the text of that name in the last \"joined\"",...
			alice> {"type":"join","room":"garage","seen":"x"}
			alice< {"room":"garage","type":"error","code":400,..."message":"\"seen\" must be a number: how many frames came",...
			alice> {"type":"join","room":"garage","resume":true,"resume":true}
			alice< {"room":"garage","type":"error","code":400,...`,
		"a new connection without the key takes over and gets what is for it": long + `
			bob> {"type":"msg","to":"alice","data":1}
			alice. cut
			bob> {"type":"msg","to":"alice","data":2}
			bob> {"type":"msg","data":"to all"}
			alice< {"room":"garage","from":"bob","type":"msg","data":1}
			back> {"type":"join","room":"garage","peer":"alice"}
			bob< {"type":"presence",...
			back< {"type":"joined","room":"garage","peer":"alice","peers":[{"peer":"bob",...
			back< {"room":"garage","from":"bob","type":"msg","data":1}
			back< {"room":"garage","from":"bob","type":"msg","data":2}`,
		"a new connection hears of what failed, too": long + `
			alice> {"type":"msg","to":"bob"}
			bob. left
			alice. cut
			bob< {"room":"garage","from":"alice","type":"msg"}
			alice< {"room":"garage","type":"error","code":480,..."to":"bob","about":"msg"}
			alice< {"type":"presence",...
			back> {"type":"join","room":"garage","peer":"alice"}
			back< {"type":"joined","room":"garage","peer":"alice","peers":[],...
			back< {"room":"garage","type":"error","code":480,..."to":"bob","about":"msg"}`,
		"what is given back is given back once": long + `
			alice> {"type":"join","room":"attic"}
			alice< {"type":"joined",...
			bob> {"type":"msg","to":"alice","room":"garage"}
			back> {"type":"join","room":"garage","peer":"alice"}
			back< {"type":"joined",...
			back< {"room":"garage","from":"bob","type":"msg"}
			alice< {"room":"garage","from":"bob","type":"msg"}
			alice< {"room":"garage","type":"error","code":409,...
			bob< {"type":"presence",...
			alice> {"type":"join","room":"garage"}
			alice< {"type":"joined",...
			back< {"room":"garage","type":"error","code":409,...
			back! 409
			bob< {"type":"presence",...
			third> {"type":"join","room":"garage","peer":"alice"}
			third< {"type":"joined",...
			third< {"room":"garage","from":"bob","type":"msg"}
			alice< {"room":"garage","from":"bob","type":"msg"}
			alice< {"room":"garage","type":"error","code":409,...
			bob< {"type":"presence",...`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse()
				defer h.cfg.Close()
				h.play(t, script)
			})
		})
	}
}

func TestWhoSaidThatItResumesHasThirtySecondsAndOthersTheGrace(t *testing.T) {
	for resume, most := range map[string]time.Duration{"true": 30 * time.Second, "false": 5 * time.Second} {
		t.Run(resume, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse()
				defer h.cfg.Close()
				h.play(t, fmt.Sprintf(`
					alice> {"type":"join","room":"garage","peer":"alice","resume":%s}
					alice< {"type":"joined",...`, resume)+bobJoins+`
					alice. cut`)
				time.Sleep(most - time.Second)
				synctest.Wait()
				h.play(t, `
					back> {"type":"join","room":"garage","resume":"KEY@alice","seen":2}
					back< {"type":"joined",..."resumed":true,...`)
				h.client("back").Close(false)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				h.play(t, `bob< {"type":"presence","room":"garage","peer":"alice","presence":null}`)

				h.play(t, fmt.Sprintf(`
					late> {"type":"join","room":"garage","peer":"alice","resume":%s}
					bob< {"type":"presence",...
					late< {"type":"joined",...
					late. cut
					bob> {"type":"msg","to":"alice"}`, resume))
				time.Sleep(most)
				synctest.Wait()
				h.play(t, `
					bob< {"room":"garage","type":"error","code":480,...
					bob< {"type":"presence","room":"garage","peer":"alice","presence":null}
					again> {"type":"join","room":"garage","peer":"alice","resume":"KEY@late","seen":1}
					bob< {"type":"presence",...
					again< {"type":"joined",..."resumed":false,...`)
			})
		})
	}
}

func TestWhatTheClientHasIsNotRememberedAndNotTakenForLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, both+`
			bob> {"type":"msg","to":"alice","data":1}
			bob> {"type":"msg","to":"alice","data":2}
			alice< {"room":"garage","from":"bob","type":"msg","data":1}
			alice< {"room":"garage","from":"bob","type":"msg","data":2}`)
		h.client("alice").Seen(3) // joined, presence, the first
		h.client("alice").Close(true)
		h.play(t, `
			bob< {"room":"garage","type":"error","code":480,...
			bob< {"type":"presence",...`)
	})
}

func TestWhatTheClientHasIsNotTakenForLostWhenItIsNotResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		defer h.cfg.Close()
		h.play(t, both+`
			bob> {"type":"msg","to":"alice"}
			alice< {"room":"garage","from":"bob","type":"msg"}
			alice. cut
			back> {"type":"join","room":"attic","peer":"alice","resume":"KEY@alice","seen":SEEN@alice}
			back< {"type":"joined","room":"attic","peer":"alice","resumed":false,...`)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		h.play(t, `bob< {"type":"presence","room":"garage","peer":"alice","presence":null}`)
	})
}

func TestAConnectionThatIsEndingLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		defer h.cfg.Close()
		dead := bridge.NewSession(&h.cfg, bridge.Client{Out: func(bridge.Frame) error { return bridge.ErrEnding }, End: func(why *topics.Error) { t.Error(why) }})
		dead.Receive(t.Context(), []byte(`{"type":"join","room":"garage","peer":"alice"}`))
		h.play(t, `
			bob> {"type":"join","room":"garage","peer":"bob"}
			bob< {"type":"joined",...
			bob> {"type":"msg","to":"alice","id":1}
			bob< {"type":"ok","id":1}`)
		dead.Lost()
		h.play(t, `
			back> {"type":"join","room":"garage","peer":"alice"}
			bob< {"type":"presence",...
			back< {"type":"joined",...
			back< {"room":"garage","from":"bob","type":"msg"}`)
	})
}

func TestASessionOutlivesAConnectionThatEndsWhileItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		defer h.cfg.Close()
		h.play(t, both+`
			alice. cut
			bob> {"type":"msg","to":"alice"}`)
		dead := bridge.NewSession(&h.cfg, bridge.Client{Out: func(bridge.Frame) error { return bridge.ErrEnding }, End: func(why *topics.Error) { t.Error(why) }})
		dead.Receive(t.Context(), fmt.Appendf(nil, `{"type":"join","room":"garage","resume":%q,"seen":2}`, h.client("alice").key))
		dead.Lost()
		h.play(t, `
			back> {"type":"join","room":"garage","resume":"KEY@alice","seen":2}
			back< {"type":"joined",..."resumed":true,...
			back< {"room":"garage","from":"bob","type":"msg"}`)
	})
}

func TestMoreThanFitsIntoAJoinIsToldAndNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.play(t, both+`
			alice. cut`)
		bob := h.client("bob")
		for i := range 40 {
			bob.Receive(t.Context(), fmt.Appendf(nil, `{"type":"msg","to":"alice","data":"%032000d"}`, i))
		}
		back := h.client("back")
		back.Receive(t.Context(), []byte(`{"type":"join","room":"garage","peer":"alice"}`))
		arrived, told := 0, 0
		for frame := back.next(); frame != ""; frame = back.next() {
			if same(frame, `...,"from":"bob",...`) {
				arrived++
			}
		}
		for frame := bob.next(); frame != ""; frame = bob.next() {
			if same(frame, `{...,"type":"error","code":4...`) {
				told++
			}
		}
		if arrived < 10 || arrived+told != 40 {
			t.Errorf("of 40 messages %d arrived, and %d were told of", arrived, told)
		}
	})
}

func TestOfThoseWhoResumeASessionAtOnceOneGetsIt(t *testing.T) {
	for _, lost := range []bool{true, false} {
		t.Run(fmt.Sprintf("its connection is lost: %v", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse()
				defer h.cfg.Close()
				looked := make(chan struct{})
				h.cfg.Renew = func(bridge.Bus, topics.Identity) error { <-looked; return nil }
				h.play(t, both)
				alice, ended := h.client("alice"), 0
				if lost {
					alice.Lost()
				}
				var all sync.WaitGroup
				claimants := make([]*client, 20)
				for i := range claimants {
					claimants[i] = h.client(fmt.Sprint("back", i))
					all.Go(func() {
						claimants[i].Receive(t.Context(), fmt.Appendf(nil, `{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":2}`, alice.key))
					})
				}
				synctest.Wait()
				close(looked)
				all.Wait()
				for _, c := range claimants {
					if c.ended != nil && c.ended.Code == topics.Replaced {
						ended++
					}
				}
				if ended != len(claimants)-1 {
					t.Errorf("of %d who came at once %d were told that another took over", len(claimants), ended)
				}
				for _, c := range claimants {
					c.Close(true)
				}
			})
		})
	}
}

func TestAStayThatIsNotResumedAfterAllIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		defer h.cfg.Close()
		h.play(t, twoRooms+`
			alice. cut`)
		h.cfg.Renew = func(bridge.Bus, topics.Identity) error { return topics.Errorf(topics.Unauthorized, "not any more") }
		h.play(t, `
			back> {"type":"join","room":"garage","resume":"KEY@alice","seen":3}
			back< {"room":"garage","type":"error","code":401,...
			back! 401`)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		h.play(t, `bob< {"type":"presence","room":"garage","peer":"alice","presence":null}`)
	})
}

func TestWhoIsNotResumedAuthenticatesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		defer h.cfg.Close()
		h.play(t, both+`
			alice. cut`)
		authenticate, times := h.cfg.Authenticate, 0
		h.cfg.Authenticate = func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
			times++
			return authenticate(ctx, c)
		}
		h.play(t, `
			back> {"type":"join","room":"garage","peer":"alice","resume":"KEY@alice","seen":99}
			bob< {"type":"presence",...
			back< {"type":"joined",..."resumed":false,...`)
		if times != 1 {
			t.Errorf("it authenticated %d times", times)
		}
	})
}
