package whip

import (
	"encoding/json"
	"strings"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// candidate is a message "candidate": RTCIceCandidateInit (W3C WebRTC, 4.8.1) with
// type and session.
type candidate struct {
	Type             string  `json:"type"`
	Session          string  `json:"session"`
	Candidate        string  `json:"candidate"` // "": there are no more
	SDPMid           *string `json:"sdpMid,omitempty"`
	SDPMLineIndex    *int    `json:"sdpMLineIndex,omitempty"`
	UsernameFragment string  `json:"usernameFragment,omitempty"`
}

// readCandidate reads what a device says. What is no candidate at all, or would
// break a line of SDP, is left out: ok is false.
func readCandidate(payload []byte) (c candidate, ok bool) {
	if json.Unmarshal(payload, &c) != nil || strings.ContainsAny(c.Candidate, "\r\n\x00") {
		return c, false
	}
	return c, c.Candidate == "" || checkCandidate(c.text()) == nil
}

// text is the candidate as it stands behind a=candidate: in SDP.
func (c candidate) text() string {
	return strings.TrimPrefix(strings.TrimPrefix(c.Candidate, "a="), "candidate:")
}

// ufrag is that of the ICE it belongs to, "" if it does not say.
func (c candidate) ufrag() string {
	ufrag := c.UsernameFragment
	if ufrag == "" {
		if _, after, ok := strings.Cut(c.Candidate, " ufrag "); ok {
			ufrag, _, _ = strings.Cut(after, " ")
		}
	}
	return ufrag
}

func (d description) hasUfrag(ufrag string) bool {
	for _, section := range d.sections() {
		if valueOf(section, attrUfrag) == ufrag {
			return true
		}
	}
	return false
}

// section is the index of the m-section that the candidate says it is of, or -1.
func (c candidate) section(of mids) int {
	if c.SDPMid != nil {
		if i := of.section(*c.SDPMid); i >= 0 {
			return i
		}
	}
	if i := c.SDPMLineIndex; i != nil && *i >= 0 && *i < len(of) {
		return *i
	}
	return -1
}

// checkCandidate checks what stands behind a=candidate: (RFC 8839, 5.1).
func checkCandidate(text string) error {
	if fields := strings.Fields(text); len(fields) < 8 || fields[6] != "typ" {
		return topics.Errorf(topics.BadRequest, "%s is no candidate of ICE: it takes foundation, component, transport, priority, address, port, typ and type", bridge.Excerpt(text))
	}
	return nil
}
