package main

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"time"
)

// Each case is what is published, one line each: the milliseconds since the
// start, the topic, the payload. A line that begins with > is what the watch
// says to it.
var cases = []struct{ name, script string }{
	{"a peer comes and goes", `
		0 rtc/v1/garage/peers/cam1 {"online":true,"role":"camera","name":"Front door","via":"mqtt"}
		> garage  + cam1 (camera "Front door") by mqtt
		9 rtc/v1/garage/peers/alice {"online":true}
		> garage  + alice
		10 rtc/v1/garage/peers/cam1
		> garage  - cam1
		11 rtc/v1/garage/peers/cam1`},
	{"a device that is known stays listed, offline", `
		0 rtc/v1/yard/peers/cam2 {"online":false,"since":1}
		1 rtc/v1/yard/peers/cam2 {"online":true,"since":2,"via":"mqtt"}
		> yard  + cam2 by mqtt
		2 rtc/v1/yard/peers/cam2 {"online":false,"since":3}
		> yard  - cam2`},
	{"presence that says nothing new is no news", `
		0 rtc/v1/garage/peers/cam1 {"online":true,"name":"Door","info":{"t":1}}
		> garage  + cam1 ("Door")
		1 rtc/v1/garage/peers/cam1 {"online":true,"name":"Door","info":{"t":2}}
		2 rtc/v1/garage/peers/cam1 {"online":true,"name":"Gate"}
		> garage  + cam1 ("Gate")`},
	{"a call is set up and hung up, once", `
		0 rtc/v1/garage/to/cam1/alice {"type":"offer","session":"k3","sdp":"v=0 SECRET"}
		> garage  alice -> cam1 offer k3
		20 rtc/v1/garage/to/cam1/alice {"type":"candidate","session":"k3","candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host"}
		43 rtc/v1/garage/to/alice/cam1 {"type":"answer","session":"k3","sdp":"v=0 SECRET"}
		> garage  call k3 alice <-> cam1 set up in 43 ms
		12043 rtc/v1/garage/to/cam1/alice {"type":"bye","session":"k3","reason":"hangup"}
		> garage  call k3 alice <-> cam1 ended: hangup after 12 s
		12044 rtc/v1/garage/to/alice/cam1 {"type":"bye","session":"k3","reason":"hangup"}`},
	{"a camera that offers is asked to start", `
		0 rtc/v1/garage/to/cam1/alice {"type":"start","session":"k1"}
		> garage  alice -> cam1 start k1
		5 rtc/v1/garage/to/alice/cam1 {"type":"offer","session":"k1"}
		> garage  cam1 -> alice offer k1
		30 rtc/v1/garage/to/cam1/alice {"type":"answer","session":"k1"}
		> garage  call k1 alice <-> cam1 set up in 30 ms
		90 rtc/v1/garage/to/cam1/alice {"type":"offer","session":"k1"}
		> garage  alice -> cam1 offer k1
		95 rtc/v1/garage/to/alice/cam1 {"type":"answer","session":"k1"}
		125030 rtc/v1/garage/to/alice/cam1 {"type":"bye","session":"k1","reason":"gone"}
		> garage  call k1 alice <-> cam1 ended: cam1 is gone after 2m5s`},
	{"a call to an absent camera fails", `
		0 rtc/v1/garage/to/cam9/alice {"type":"offer","session":"k3"}
		> garage  alice -> cam9 offer k3
		1 rtc/v1/garage/to/alice/_ {"type":"error","code":480,"reason":"offline","session":"k3","to":"cam9","about":"offer"}
		> garage  call k3 failed: 480 offline
		2 rtc/v1/garage/to/cam9/alice {"type":"bye","session":"k3"}
		3 rtc/v1/garage/to/alice/_ {"type":"error","code":480,"reason":"offline","session":"k3","to":"cam9","about":"bye"}`},
	{"the same session of other people or in another room is another call", `
		0 rtc/v1/garage/to/cam1/alice {"type":"offer","session":"k"}
		> garage  alice -> cam1 offer k
		1 rtc/v1/yard/to/cam1/alice {"type":"bye","session":"k"}
		2 rtc/v1/garage/to/cam1/bob {"type":"bye","session":"k"}
		3 rtc/v1/garage/to/cam1/alice {"type":"bye","session":"k"}
		> garage  call k alice <-> cam1 ended: bye before an answer`},
	{"errors about something else are told too", `
		0 rtc/v1/garage/to/alice/_ {"type":"error","code":429,"reason":"rate-limited","retryAfter":2}
		> garage  alice is told: 429 rate-limited
		1 rtc/v1/garage/to/alice/_ {"type":"error","code":404,"reason":"not-found","to":"cam9","about":"msg"}
		> garage  alice is told: 404 not-found (msg)`},
	{"what peers write plays no tricks", `
		0 rtc/v1/garage/peers/eve {"online":true,"role":"\u001b[2J","name":"\u0007"}
		> garage  + eve ("\x1b[2J" "\a")
		1 rtc/v1/garage/to/cam1/eve {"type":"offer","session":"\n"}
		> garage  eve -> cam1 offer "\n"`},
	{"other topics and other payloads are ignored", `
		0 other/v1/garage/peers/cam1 {"online":true}
		1 rtc/v1/garage/all/cam1 {"type":"msg"}
		2 rtc/v1/garage/peers/cam1 hello
		3 rtc/v1/garage/to/cam1/alice []
		4 rtc/v1/garage/to/cam1/alice {"type":"msg","data":1}
		5 rtc/v1/garage/to/cam1/alice {"type":"answer","session":"k8"}
		6 rtc/v1/garage/to/cam1/alice {"type":"x-dance","session":"k8"}
		7 rtc/v1/garage/to/cam1
		8 rtc/v1/garage/to/alice/_ {"type":"hello","room":"garage","peer":"alice"}`},
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatchSaysWhoComesAndGoesAndWhatBecomesOfCalls(t *testing.T) {
	start := time.Date(2026, 1, 2, 12, 3, 4, 0, time.UTC)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWatch("rtc")
			var got, want []string
			for line := range strings.Lines(strings.TrimSpace(c.script)) {
				line = strings.TrimSpace(line)
				want = append(want, line)
				if strings.HasPrefix(line, "> ") {
					continue
				}
				var ms int
				var topic string
				if _, err := fmt.Sscan(line, &ms, &topic); err != nil {
					t.Fatal(err)
				}
				_, payload, _ := strings.Cut(line, topic)
				now := start.Add(time.Duration(ms) * time.Millisecond)
				got = append(got, line)
				for _, said := range w.hear(now, topic, []byte(strings.TrimSpace(payload))) {
					got = append(got, "> "+said)
				}
			}
			if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func TestWatchForgetsOldCalls(t *testing.T) {
	w := newWatch("rtc")
	for i := range 5 * maxCalls {
		say := func(what string) {
			w.hear(time.Time{}, "rtc/v1/garage/to/cam1/alice", fmt.Appendf(nil, `{"type":%q,"session":"k%d"}`, what, i))
		}
		say("offer")
		if i%2 == 0 {
			say("bye")
		}
		if len(w.calls) > maxCalls || len(w.order) > 2*maxCalls+1 {
			t.Fatalf("after %d calls %d are remembered (%d in order)", i, len(w.calls), len(w.order))
		}
	}
}

func TestRootMayHaveLevels(t *testing.T) {
	w := newWatch("acme/rtc")
	if got := w.hear(time.Time{}, "acme/rtc/v1/garage/peers/cam1", []byte(`{"online":true}`)); len(got) != 1 || got[0] != "garage  + cam1" {
		t.Errorf("%q", got)
	}
}
