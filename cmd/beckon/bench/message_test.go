package bench

import (
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestMessagesAreThoseOfTheProtocolAndSayWhichTheyAre(t *testing.T) {
	texts := newTexts(2048)
	for k, kindOf := range map[kind]topics.Kind{offer: topics.Direct, answer: topics.Direct, candidate: topics.Direct, bye: topics.Direct, msg: topics.All} {
		want := mark{kind: k, call: 7, number: 42, sent: 123456789 * time.Nanosecond}
		text := texts.append(nil, want)
		if _, err := topics.CheckMessage(text, topics.Address{Room: "r", Kind: kindOf, Dst: "d", Src: "s"}); err != nil {
			t.Errorf("%c is no message: %v", k, err)
		}
		routed := append([]byte(`{"room":"r","from":"s",`), text[1:]...)
		for _, arrived := range [][]byte{text, routed} {
			if got, ok := readMark(arrived); !ok || got != want {
				t.Errorf("%c says %+v, %v, want %+v", k, got, ok, want)
			}
		}
	}
}

func TestDescriptionHasTheSizeThatWasAskedFor(t *testing.T) {
	for _, size := range []int{7, 100, 2048, 5000} {
		text := newTexts(size)
		if len(text.description) != size || len(text.filling) != size {
			t.Errorf("of %d bytes: %d and %d", size, len(text.description), len(text.filling))
		}
		if !json.Valid([]byte(`"` + text.description + `"`)) {
			t.Errorf("%q is no JSON text", text.description)
		}
	}
}

func TestForeignMessageHasNoMark(t *testing.T) {
	for _, text := range []string{
		"", `{}`, `{"type":"hello","room":"r","peer":"me","iceServers":[],"ttl":3600,"max":65536}`,
		`{"type":"msg","bench":"x0000002a000001a400000000075bcdzz"}`,
	} {
		if m, ok := readMark([]byte(text)); ok {
			t.Errorf("%s has %+v", text, m)
		}
	}
}

func TestErrorOfTheServerIsRead(t *testing.T) {
	code, text, ok := readError([]byte(`{"type":"error","room":"r","code":480,"reason":"offline","message":"cam1 is offline"}`))
	if code != 480 || text != "cam1 is offline" || !ok {
		t.Errorf("it is %d, %q, %v", code, text, ok)
	}
	for _, text := range []string{`{"type":"msg","data":"error"}`, `"error"`, `{"error"`, `{"type":"hello"}`} {
		if _, _, ok := readError([]byte(text)); ok {
			t.Errorf("%s is taken for an error", text)
		}
	}
}

func TestLostDoubledAndDisorderedAreToldApart(t *testing.T) {
	p := &peer{run: &run{program: Program{Stderr: io.Discard}}}
	var heard []uint32
	p.hear = func(m mark) { heard = append(heard, m.number) }
	texts := newTexts(0)
	for _, number := range []uint32{1, 2, 2, 5, 4, 4, 200, 6, 199} { // 3 never comes
		p.take(texts.append(nil, mark{kind: msg, number: number}))
	}
	if p.got.Load() != 6 || p.doubled.Load() != 3 || p.disordered.Load() != 2 {
		t.Errorf("got %d, doubled %d, disordered %d, want 6, 3 (what is 64 behind among them), 2", p.got.Load(), p.doubled.Load(), p.disordered.Load())
	}
	if len(heard) != 6 {
		t.Errorf("heard %v", heard)
	}
}

func TestErrorsAreCountedByCode(t *testing.T) {
	p := &peer{run: new(run)}
	for _, text := range []string{`{"type":"error","code":486,"message":"a"}`, `{"type":"error","code":480,"message":"b"}`, `{"type":"error","code":486,"message":"c"}`} {
		p.take([]byte(text))
	}
	all := p.run.faults.all()
	if len(all) != 2 || all[0] != (Fault{480, 1, "b"}) || all[1] != (Fault{486, 2, "a"}) || p.run.faults.count() != 3 {
		t.Errorf("they are %+v", all)
	}
}
