package whip

import (
	"strings"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// maxCandidates is how many candidates one fragment may have, and how many of a
// device's are kept: a machine with many networks has some thirty.
const maxCandidates = 128

// fragment is application/trickle-ice-sdpfrag (RFC 8840, 9).
type fragment struct {
	ufrag, pwd string
	parts      []part
}

// part is what a fragment says of one m-section, or, before the first, of all.
type part struct {
	mid        string
	index      int // of its m= line in the fragment, whose kind means nothing; -1: before the first
	candidates []string
	end        bool // there will be no more
}

// parseFragment reads text, with the tolerance of parseSDP. Lines that it does not
// know are skipped. The error is a 400.
func parseFragment(text string) (fragment, error) {
	f := fragment{parts: []part{{index: -1}}}
	lines, err := linesOf(text)
	if err != nil {
		return f, err
	}
	if len(lines) == 0 {
		return f, topics.Errorf(topics.BadRequest, "the body is empty, it takes a fragment of SDP")
	}
	count := 0
	for _, line := range lines {
		p := &f.parts[len(f.parts)-1]
		name, value, _ := strings.Cut(line, ":")
		switch name + ":" {
		case attrMid:
			p.mid = value
		case attrUfrag:
			f.ufrag, err = agree(name, f.ufrag, value)
		case attrPwd:
			f.pwd, err = agree(name, f.pwd, value)
		case attrCandidate:
			count++
			p.candidates = append(p.candidates, value)
			err = checkCandidate(value)
		case attrEnd + ":":
			p.end = true
		default:
			if strings.HasPrefix(line, "m=") {
				f.parts = append(f.parts, part{index: len(f.parts) - 1})
				err = checkMedia(len(f.parts) - 1)
			}
		}
		if err != nil {
			return f, err
		}
	}
	if count > maxCandidates {
		return f, topics.Errorf(topics.BadRequest, "%d candidates in one fragment, it takes %d", count, maxCandidates)
	}
	return f, nil
}

// agree takes the value of a line that may stand in every section, where it must
// say the same: media are bundled.
func agree(name, before, value string) (string, error) {
	if value == "" || strings.ContainsAny(value, " \t") || len(value) > 256 { // RFC 8839, 5.4
		return before, topics.Errorf(topics.BadRequest, "%s: with %s is none", name, bridge.Excerpt(value))
	}
	if before != "" && before != value {
		return before, topics.Errorf(topics.BadRequest, "the fragment has two values of %s, %s and %s", name, bridge.Excerpt(before), bridge.Excerpt(value))
	}
	return value, nil
}

// check says (422) which part is of no m-section of the offer.
func (f fragment) check(offer description) error {
	mids := offer.mids()
	for _, p := range f.parts {
		if p.mid != "" && mids.section(p.mid) < 0 {
			return unprocessable("the offer has no m-section with a=mid:%s", bridge.Excerpt(p.mid))
		}
		if p.mid == "" && p.index >= len(mids) {
			return unprocessable("the fragment has more m-sections than the offer, which has %d, and this one says no a=mid", len(mids))
		}
	}
	return nil
}

// section is the index of the part's m-section in the offer: that of its mid, else
// the one in its place, and the first for what stands before all.
func (p part) section(offer mids) int {
	if i := offer.section(p.mid); i >= 0 {
		return i
	}
	return min(max(p.index, 0), len(offer)-1)
}

// messages are what the fragment says, for the device: a message for each
// candidate, and an empty one where there are no more. That has no m-section when
// it is about all of them.
func (f fragment) messages(session string, offer description) []candidate {
	ufrag := f.ufrag
	if ufrag == "" {
		ufrag = offer.value(attrUfrag)
	}
	var messages []candidate
	mids := offer.mids()
	for _, p := range f.parts {
		at := p.section(mids)
		m := candidate{Type: topics.TypeCandidate, Session: session, SDPMLineIndex: &at, UsernameFragment: ufrag}
		if mid := mids[at]; mid != "" {
			m.SDPMid = &mid
		}
		for _, c := range p.candidates {
			m.Candidate = "candidate:" + c
			messages = append(messages, m)
		}
		if p.end {
			m.Candidate = ""
			if p.index < 0 || len(mids) == 1 {
				m.SDPMid, m.SDPMLineIndex = nil, nil
			}
			messages = append(messages, m)
		}
	}
	return messages
}
