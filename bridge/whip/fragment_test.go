package whip

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

func FuzzFragment(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		fragment, err := parseFragment(text)
		if err != nil {
			if topics.AsError(err).Code != topics.BadRequest {
				t.Fatalf("%q is %v", text, err)
			}
			return
		}
		stored := parsed(t, offer)
		if fragment.check(stored) != nil {
			return
		}
		a := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "http-1"}
		for _, m := range fragment.messages("k3", stored) {
			payload, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := topics.CheckMessage(payload, a); err != nil {
				t.Fatalf("%s: %v", payload, err)
			}
			c, ok := readCandidate(payload)
			if !ok || c.section(stored) != *orZero(m.SDPMLineIndex) && m.Candidate != "" {
				t.Fatalf("%s is read as %+v", payload, c)
			}
		}
		if fragment.ufrag == "" || fragment.pwd == "" {
			return
		}
		restarted := stored.restarted(fragment)
		again, err := parseSDP(restarted.String())
		if err != nil || again.checkOffer("whep") != nil || again.value(attrUfrag) != fragment.ufrag || again.value(attrPwd) != fragment.pwd ||
			strings.Contains(again.String(), "EsAw") && !strings.Contains(text, "EsAw") {
			t.Fatalf("restarted it is %q, %v", restarted.String(), err)
		}
	})
}

func orZero(n *int) *int {
	if n == nil {
		return new(int)
	}
	return n
}
