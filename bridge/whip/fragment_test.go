package whip

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

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
			if !ok || c.section(stored.mids()) != *orZero(m.SDPMLineIndex) && m.Candidate != "" {
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

func TestPartsOfAFragmentDoNotEachReadTheOffer(t *testing.T) {
	stored := parsed(t, offer+strings.Repeat("m=audio 9 RTP/AVP 0\r\n", 200)+strings.Repeat("a=x-filler:y\r\n", 8000)+"a=mid:last\r\n")
	took := func(parts int) time.Duration {
		f, err := parseFragment(strings.Repeat("m=audio 9 RTP/AVP 0\r\na=mid:last\r\na=end-of-candidates\r\n", parts))
		if err != nil {
			t.Fatal(err)
		}
		least := time.Hour
		for range 10 {
			begin := time.Now()
			if err := f.check(stored); err != nil {
				t.Fatal(err)
			}
			if n := len(f.messages("k3", stored)); n != parts {
				t.Fatalf("%d messages of %d parts", n, parts)
			}
			stored.restarted(f)
			least = min(least, time.Since(begin))
		}
		return least
	}
	if one, many := took(1), took(maxMedia); many > 8*one {
		t.Errorf("%d parts take %v, one takes %v", maxMedia, many, one)
	}
}

func orZero(n *int) *int {
	if n == nil {
		return new(int)
	}
	return n
}
