package whip

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func parsed(t testing.TB, text string) description {
	t.Helper()
	d, err := parseSDP(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDescriptionIsWrittenAsItWasReadButForItsLineEnds(t *testing.T) {
	for _, text := range []string{offer, strings.ReplaceAll(offer, "\r\n", "\n"), strings.ReplaceAll(offer, "\r\n", "\r\n\r\n"), "\n" + offer, strings.TrimSpace(offer)} {
		if got := parsed(t, text).String(); got != offer {
			t.Errorf("%q\nbecame %q", text, got)
		}
	}
	odd := lines("v=0", "o=-  1  1 IN IP4 ", "s= \tspaces ", "a=", "m=audio 9 X  0 ", `a=x:"ü"`, "a=candidate:"+host1+" ")
	if got := parsed(t, odd).String(); got != odd {
		t.Errorf("%q\nbecame %q", odd, got)
	}
	twice := strings.Replace(offer, "a=setup", "a=candidate:candidate:"+host1+"\r\na=setup", 1)
	if got := parsed(t, twice).String(); got != strings.Replace(twice, "candidate:candidate:", "candidate:", 1) {
		t.Errorf("it is %q", got)
	}
}

// unbundled has a transport for each of its media.
var unbundled = strings.Replace(answer, "a=group:BUNDLE 0 1\r\n", "", 1)

func TestCandidatesAreFoldedIntoTheSectionOfTheirTransport(t *testing.T) {
	at := func(n int, mid string, texts ...string) (all []candidate) {
		for _, text := range texts {
			all = append(all, candidate{Candidate: "candidate:" + text, SDPMLineIndex: &n, SDPMid: &mid})
		}
		return all
	}
	audio, video := "m=audio 9", "m=video 9"
	for name, c := range map[string]struct {
		answer     string
		candidates []candidate
		all        bool
		want       map[string][]string // the candidate lines and the end, by section
	}{
		"none":            {answer, nil, true, map[string][]string{}},
		"bundled":         {answer, at(1, "1", host1, host2), true, map[string][]string{audio: {host1, host2, "end"}}},
		"not all":         {answer, at(0, "0", host1), false, map[string][]string{audio: {host1}}},
		"bundle of video": {strings.Replace(answer, "BUNDLE 0 1", "BUNDLE 1 0", 1), at(0, "0", host1), true, map[string][]string{video: {host1, "end"}}},
		"not bundled":     {unbundled, append(at(0, "0", host1), at(1, "1", host2)...), false, map[string][]string{audio: {host1}, video: {host2}}},
		"by index":        {unbundled, at(1, "x", host1), false, map[string][]string{video: {host1}}},
		"of nowhere":      {unbundled, at(9, "x", host1), false, map[string][]string{audio: {host1}}},
		"both transports": {unbundled, append(at(0, "0", host1), at(1, "1", host1)...), false, map[string][]string{audio: {host1}, video: {host1}}},
		"there already":   {answer + "a=candidate:" + host1 + "\r\n", at(0, "0", strings.Replace(host1, "1 1 udp", "9 1 UDP", 1), host2), true, map[string][]string{audio: {host2, "end"}, video: {host1}}},
		"end already":     {answer + "a=candidate:" + host1 + "\r\na=end-of-candidates\r\n", nil, true, map[string][]string{video: {host1, "end"}}},
		"tcp kinds":       {answer, at(0, "0", host1+" tcptype active", host1+" tcptype passive", host1+" tcptype active"), false, map[string][]string{audio: {host1 + " tcptype active", host1 + " tcptype passive"}}},
	} {
		before := parsed(t, c.answer)
		folded := before.fold(c.candidates, c.all)
		if before.String() != parsed(t, c.answer).String() {
			t.Errorf("%s: the answer itself has changed", name)
		}
		got := map[string][]string{}
		for _, m := range parsed(t, folded.String()).media {
			for _, line := range m {
				section := strings.Join(strings.Fields(m[0])[:2], " ")
				if text, ok := strings.CutPrefix(line, attrCandidate); ok {
					got[section] = append(got[section], text)
				} else if line == attrEnd {
					got[section] = append(got[section], "end")
				}
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestRestartReplacesWhatWasOfTheOldICE(t *testing.T) {
	old := strings.NewReplacer("a=setup:actpass\r\nm=video", "a=setup:actpass\r\na=candidate:"+host1+"\r\na=end-of-candidates\r\nm=video",
		"s=-", "s=-\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1").Replace(offer)
	f, err := parseFragment(newICE + lines("a=end-of-candidates", "m=video 9 X 0", "a=mid:1", "a=candidate:"+srflx))
	if err != nil {
		t.Fatal(err)
	}
	got := parsed(t, old).restarted(f).String()
	want := strings.NewReplacer("4611 2", "4611 3", "EsAw", "New1", "P2uYro0U", "N2uYro0U", host1, host2).Replace(old) + "a=candidate:" + srflx + "\r\n"
	if got != want {
		t.Errorf("it is %s\nwant %s", got, want)
	}
	for line, want := range map[string]string{
		"o=- 1 9 IN IP4 0": "o=- 1 10 IN IP4 0", "o=- 1 x IN IP4 0": "o=- 1 x IN IP4 0", "o=-": "o=-",
		"o=- 1 18446744073709551615 IN IP4 0": "o=- 1 18446744073709551615 IN IP4 0",
	} {
		if got := nextVersion(line); got != want {
			t.Errorf("after %s comes %s", line, got)
		}
	}
}

func FuzzOffer(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseSDP(text)
		if err != nil {
			return
		}
		written := d.String()
		again, err := parseSDP(written)
		if err != nil || !reflect.DeepEqual(again, d) || again.String() != written {
			t.Fatalf("%q is read again as %q, %v", written, again.String(), err)
		}
		for _, kind := range []string{"whep", "whip"} {
			_ = d.checkOffer(kind)
		}
		_ = d.complete(nil)
		mid, at := "0", 1
		folded := d.fold([]candidate{{Candidate: host1, SDPMid: &mid}, {Candidate: host2, SDPMLineIndex: &at}, {Candidate: host1}}, true)
		if _, err := parseSDP(folded.String()); err != nil {
			t.Fatalf("folded it is %q: %v", folded.String(), err)
		}
		if folded := folded.fold([]candidate{{Candidate: host1, SDPMid: &mid}}, true); len(folded.String()) > len(written)+3*len(attrCandidate+host1)+len(attrEnd)+20 {
			t.Fatalf("a candidate stands in it twice: %q", folded.String())
		}
		if _, err := linesOf(folded.ice()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOneCandidateOfARestartEndsWithCRLF(t *testing.T) {
	const (
		loopback = "4 1 udp 2130706431 127.0.0.1 5000 typ host"
		tcp      = "5 1 tcp 1518280447 192.0.2.1 9 typ relay tcptype passive"
		relay    = "6 1 udp 16777215 203.0.113.1 6000 typ relay raddr 0.0.0.0 rport 0"
	)
	for _, c := range []struct {
		candidates []string
		found      string // by whip-whep
	}{
		{nil, ""},
		{[]string{host1}, host1},
		{[]string{loopback}, loopback},
		{[]string{loopback, "2" + host1[1:], host2}, "2" + host1[1:]},
		{[]string{host1, srflx, host2}, srflx},
		{[]string{host1, tcp, relay, srflx}, relay},
		{[]string{strings.Replace(host1, " 1 ", " 2 ", 1), host1, host1}, host1}, // RTCP is no way for media
	} {
		d, err := parseSDP(answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range c.candidates {
			d.media[0] = append(d.media[0], "a=candidate:"+text)
		}
		text := d.ice()
		var found []string
		for _, m := range regexp.MustCompile(`a=candidate:([^\r\n]*)\r\n`).FindAllStringSubmatch(text, -1) { // its expression
			found = append(found, m[1])
		}
		if got := strings.Join(found, " and "); got != c.found {
			t.Errorf("of %q it finds %s, want %s", c.candidates, got, c.found)
		}
		f, err := parseFragment(text)
		if err != nil || !slices.Equal(f.parts[1].candidates, c.candidates) {
			t.Errorf("%v: others find %q, want %q", err, f.parts[1].candidates, c.candidates)
		}
	}
}
