package ws

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/beckon-rtc/beckon/bridge"
)

// bytesOf is a frame of n bytes, in two parts.
func bytesOf(n int) bridge.Frame {
	return bridge.Frame{Head: make([]byte, n/2), Rest: make([]byte, n-n/2)}
}

func TestAQueueTakesFramesUntilItIsFull(t *testing.T) {
	q := queue{limit: 300}
	for i, want := range []error{nil, nil, bridge.ErrFull, bridge.ErrFull} {
		start, err := q.push(bytesOf(150))
		if err != want || start != (i == 0) {
			t.Errorf("push %d: %v, %v", i, start, err)
		}
	}
	last := bytesOf(150)
	last.Follows = true
	if _, err := q.push(last); err != nil {
		t.Errorf("what belongs to a frame that it took: %v", err)
	}
	l, _ := q.take(bridge.Chunk)
	if len(l.frames) != 3 {
		t.Fatalf("it gave %d frames", len(l.frames))
	}
	if _, err := q.push(bridge.Frame{}); err != bridge.ErrFull {
		t.Errorf("what is being written was not counted: %v", err)
	}
	if q.wrote(l.size) {
		t.Error("there is more to write")
	}
	if start, err := q.push(bridge.Frame{}); !start || err != nil {
		t.Errorf("with room again: %v, %v", start, err)
	}
}

func TestAQueueGivesLoadsInOrderAndTheCloseFrameLast(t *testing.T) {
	q := queue{limit: 1 << 20}
	for i := range 5 {
		if _, err := q.push(bridge.Frame{Head: bytes.Repeat([]byte{'a' + byte(i)}, bridge.Chunk/2)}); err != nil {
			t.Fatal(err)
		}
	}
	if q.end([]byte("bye"), false) || q.end([]byte("again"), false) {
		t.Error("there are two writers")
	}
	if _, err := q.push(bytesOf(4)); err != bridge.ErrEnding {
		t.Errorf("a frame after the end: %v", err)
	}
	text := ""
	for {
		l, ok := q.take(bridge.Chunk)
		if !ok {
			break
		}
		for _, f := range l.frames {
			text += string(f.Head[0])
		}
		q.wrote(l.size)
		text += "|" + string(l.last)
	}
	if text != "ab|cd|e|bye" || q.size != 0 {
		t.Errorf("it gave %s, %d bytes are left", text, q.size)
	}
}

func TestAQueueThatIsDroppedGivesTheCloseFrameOnly(t *testing.T) {
	q := queue{limit: 1 << 20}
	q.push(bytesOf(1))
	q.pushPing()
	q.pushPong("x")
	q.end([]byte("bye"), true)
	l, ok := q.take(bridge.Chunk)
	if !ok || len(l.frames) != 0 || l.ping || l.pong != nil || string(l.last) != "bye" || q.size != 0 {
		t.Errorf("it gave %+v", l)
	}
	if _, ok := q.take(bridge.Chunk); ok {
		t.Error("there is more")
	}
}

func TestAQueueStartsAWriterOnlyWhenThereIsNone(t *testing.T) {
	q := queue{limit: 1 << 20}
	if start, _ := q.push(bytesOf(1)); !start {
		t.Error("no writer was started")
	}
	if q.pushPing() || q.pushPong("") {
		t.Error("a second one was started")
	}
	q.take(bridge.Chunk)
	if _, ok := q.take(bridge.Chunk); ok {
		t.Error("there is more")
	}
	if !q.pushPong("") {
		t.Error("none was started after the first had gone")
	}
	if l, ok := q.take(bridge.Chunk); !ok || l.pong == nil {
		t.Error("an empty ping is not answered")
	}
}

func TestACloseReasonIsCutBetweenCharacters(t *testing.T) {
	for _, why := range []string{"", "short", strings.Repeat("x", 123), strings.Repeat("x", 124), strings.Repeat("€", 60), "x" + strings.Repeat("€", 60)} {
		got := short(why)
		if len(got) > maxReason || !utf8.ValidString(got) || !strings.HasPrefix(why, got) || len(why) > maxReason && len(got) < maxReason-3 {
			t.Errorf("%q became %q", why, got)
		}
	}
}
