package bridge

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestHistoryGivesTheFramesSinceANumberOrSaysThatItCannot(t *testing.T) {
	h := history{last: 2} // two frames went out before
	for i := range 5 {
		h.add(inOne(fmt.Appendf(nil, "%d", i+3)))
	}
	h.seen(4)
	h.seen(3)  // old news
	h.seen(99) // never sent
	for n, want := range map[uint64]string{4: "5 6 7 ", 6: "7 ", 7: ""} {
		if frames, ok := h.since(n); !ok || texts(frames) != want {
			t.Errorf("since %d: %s, %v; want %s", n, texts(frames), ok, want)
		}
	}
	for _, n := range []uint64{0, 3, 8} {
		if frames, ok := h.since(n); ok {
			t.Errorf("since %d: %s", n, texts(frames))
		}
	}
	if h.size != 3*cost(h.frames[0]) {
		t.Errorf("%d bytes are remembered", h.size)
	}
}

func texts(frames []Frame) (all string) {
	for _, f := range frames {
		all += string(f.Text()) + " "
	}
	return all
}

func TestWhatIsTooLateIsNotSaidAgainButGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h history
		d := topics.Delivery{Address: topics.Address{Room: "garage", Kind: topics.Direct, Src: "bob", Dst: "alice"},
			Payload: []byte(`{"type":"msg"}`), Until: time.Now().Add(20 * time.Second)}
		h.add(messageFrame(d))
		time.Sleep(19 * time.Second)
		if _, ok := h.since(0); !ok {
			t.Error("it is not said again in time")
		}
		time.Sleep(time.Second)
		if _, ok := h.since(0); ok {
			t.Error("it is said again when its sender was told")
		}
		if _, ok := h.since(1); !ok {
			t.Error("a client that has it cannot resume")
		}
		if back := h.giveBack("garage", "alice"); len(back) != 1 || !back[0].Until.Equal(d.Until) {
			t.Errorf("given back: %+v", back)
		}
	})
}

func TestFramesThatToldOfADirectMessageAreReadBack(t *testing.T) {
	var h history
	for _, frame := range []string{
		`{"type":"joined","room":"garage","peer":"alice","peers":[{"peer":"bob","presence":{"online":true}}]}`,
		`{"type":"presence","room":"garage","peer":"bob","presence":{"online":true,"from":"x"}}`,
		`{"room":"garage","from":"bob","type":"offer","session":"k3","sdp":"v=0"}`,
		`{"room":"attic","from":"bob","type":"msg"}`,
		`{"room":"garage","from":"bob","all":true,"type":"msg"}`,
		`{"room":"garage","type":"error","code":409,"reason":"replaced","message":"","temporary":false}`,
		`{"type":"ok","id":7}`,
	} {
		h.add(inOne([]byte(frame)))
	}
	got := h.giveBack("garage", "alice")
	if len(got) != 1 {
		t.Fatalf("%d messages: %v", len(got), got)
	}
	if d := got[0]; string(d.Payload) != `{"type":"offer","session":"k3","sdp":"v=0"}` || d.Src != "bob" || d.Dst != "alice" || !d.Opens() || !d.Handed {
		t.Errorf("%+v with %s", d, d.Payload)
	}
	if again := h.giveBack("garage", "alice"); again != nil {
		t.Errorf("it was given back twice: %v", again)
	}
}

func TestHistoriesCountWhatClientsHaveNotGot(t *testing.T) {
	var all atomic.Int64
	one, other := history{all: &all}, history{all: &all}
	for range 3 {
		one.add(inOne(make([]byte, 100)))
		other.add(inOne(make([]byte, 10)))
	}
	hundred, ten := int64(cost(inOne(make([]byte, 100)))), int64(cost(inOne(make([]byte, 10))))
	if n := all.Load(); n != 3*(hundred+ten) {
		t.Errorf("%d bytes are on their way", n)
	}
	one.seen(2)
	other.forget(len(other.frames))
	if n := all.Load(); n != hundred {
		t.Errorf("%d bytes are on their way, want those of one frame", n)
	}
}

func TestWhatIsRememberedIsBoundedByTheMemoryItTakes(t *testing.T) {
	in := topics.Address{Room: "garage", Kind: topics.Presence, Src: "bob"}
	text := func(d topics.Delivery) topics.Delivery { // as if nobody else had it
		d.Payload = []byte(`{"type":"msg","online":true,"since":1700000000}`)
		return d
	}
	failed := topics.Errorf(topics.Offline, "bob is offline").Of(topics.Message{Type: "msg"}, "bob").Payload()
	for name, frame := range map[string]func() Frame{
		"pong":     func() Frame { return inOne(pong) },
		"ok":       func() Frame { return inOne(okFrame([]byte("1234567"))) },
		"presence": func() Frame { return inOne(presenceFrame(text(topics.Delivery{Address: in}))) },
		"absence":  func() Frame { return inOne(presenceFrame(topics.Delivery{Address: in})) },
		"message":  func() Frame { return messageFrame(text(topics.Delivery{Address: in})) },
		"error":    func() Frame { return inOne(errorFrame("garage", []byte("7"), failed)) },
		"joined": func() Frame {
			return inOne(joinedFrame([]byte("7"), "garage", "alice", "KEY", false, &joining{hello: failed, peers: []topics.Delivery{text(topics.Delivery{Address: in})}}, 20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for !h.full() {
				h.add(frame())
			}
			h.frames = slices.Clone(h.frames) // without what the slice has in reserve
			runtime.GC()
			runtime.ReadMemStats(&after)
			if took := int(after.HeapAlloc - before.HeapAlloc); took > h.size*9/8 { // the allocator has its size classes
				t.Errorf("%d frames take %d bytes and are counted as %d", len(h.frames), took, h.size)
			}
			runtime.KeepAlive(h)
		})
	}
}

func TestGivingBackReadsNothingOfOtherRooms(t *testing.T) {
	var h history
	for i := range 1000 {
		h.add(inOne(pong))
		h.add(messageFrame(topics.Delivery{Address: topics.Address{Room: fmt.Sprint("attic", i), Kind: topics.Direct, Src: "bob"}, Payload: []byte(`{"type":"msg"}`)}))
		h.add(inOne(errorFrame(fmt.Sprint("attic", i), nil, topics.Errorf(topics.Offline, "").Of(topics.Message{Type: "msg"}, "bob").Payload())))
	}
	if n := testing.AllocsPerRun(10, func() { h.giveBack("attic", "alice") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if n := len(h.giveBack("attic7", "alice")); n != 2 {
		t.Errorf("%d messages of a room were given back, want 2", n)
	}
}

func TestTakingARoomAwayReadsNothingOfOtherRooms(t *testing.T) {
	var h history
	say := func(room string, kind topics.Kind) {
		a := topics.Address{Room: room, Kind: kind, Src: "bob", Dst: "alice"}
		if kind == topics.Presence {
			h.add(inOne(presenceFrame(topics.Delivery{Address: a, Payload: []byte(`{"online":true}`)})))
		} else {
			h.add(messageFrame(topics.Delivery{Address: a, Payload: []byte(`{"type":"msg","type":"error"}`)}))
		}
	}
	for i := range 100 {
		h.add(inOne(pong))
		for _, kind := range []topics.Kind{topics.Presence, topics.All, topics.Direct} {
			say(fmt.Sprint("attic", i), kind)
		}
		h.add(inOne(errorFrame(fmt.Sprint("attic", i), nil, topics.Errorf(topics.Offline, "").Of(topics.Message{Type: "msg"}, "bob").Payload())))
		h.add(inOne(joinedFrame([]byte(`"7"`), fmt.Sprint("attic", i), "alice", "KEY", false, &joining{}, 20)))
		h.add(inOne(okFrame([]byte("7"))))
	}
	if n := testing.AllocsPerRun(10, func() { h.blank("attic") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	all := len(h.frames)
	h.blank("attic7")
	left := 0
	for _, f := range h.frames {
		if saysRoom(f.Head, "attic7") {
			left++ // the error
		}
		if string(f.Head) == string(pong) {
			all--
		}
	}
	if left != 1 || all != 7*100-100-4 {
		t.Errorf("%d frames of the room are left, and %d that are no pong", left, all)
	}
}
