package whip

import (
	"fmt"
	"slices"
	"strings"
)

// gathering is an answer and the candidates that come beside it, which are put into
// it: where the bundled media have theirs (RFC 9143, 7.2), which is the first
// m-section of the bundle, and each to its own if they are not bundled. None comes to
// stand in it twice. The lines of an answer are read once, and not for each candidate:
// a device may send many of both.
type gathering struct {
	answer  description
	mids    mids            // of it
	first   int             // m-section of the bundle
	bundled bool            // all candidates stand in it
	there   map[string]bool // candidates that stand in it, see key
	ufrags  map[string]bool // of its ICE
	all     bool            // there will be no more
	read    int             // how many messages of the device were looked at
}

func newGathering(answer description, all bool) *gathering {
	g := &gathering{answer: answer, mids: answer.mids(), all: all, there: make(map[string]bool), ufrags: make(map[string]bool)}
	if group := strings.Fields(valueOf(answer.session, attrBundle)); len(group) > 0 {
		g.first, g.bundled = max(g.mids.section(group[0]), 0), true
	}
	for _, section := range answer.sections() {
		if ufrag := valueOf(section, attrUfrag); ufrag != "" {
			g.ufrags[ufrag] = true
		}
	}
	for i, m := range answer.media {
		for _, line := range m {
			if strings.HasPrefix(line, attrCandidate) {
				g.there[g.key(i, line)] = true
			}
		}
	}
	return g
}

// key is the same for two lines of one candidate: component, transport, address, port,
// type and what tells passive from active (RFC 8839, 5.1), and where they count as one.
func (g *gathering) key(section int, line string) string {
	if g.bundled {
		section = 0
	}
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return fmt.Sprint(section, " ", line)
	}
	tcp := ""
	if i := slices.Index(fields, "tcptype"); i >= 0 && i+1 < len(fields) {
		tcp = fields[i+1]
	}
	return fmt.Sprintf("%d %q %q %q %q %q %q", section, fields[1], strings.ToLower(fields[2]), fields[4], fields[5], fields[7], tcp)
}

// take looks at what the device said since, in messages "candidate".
func (g *gathering) take(messages [][]byte) {
	for _, payload := range messages[g.read:] {
		c, ok := readCandidate(payload)
		switch {
		case !ok || !g.isOf(c):
		case c.Candidate == "":
			g.all = true
		default:
			g.add(c)
		}
	}
	g.read = len(messages)
	if g.all && len(g.there) > 0 && !g.answer.has(attrEnd) {
		g.answer.media[g.first] = append(g.answer.media[g.first], attrEnd)
	}
}

// isOf reports whether a candidate belongs to the ICE of the answer, as far as it
// says: after a restart one of before may still come.
func (g *gathering) isOf(c candidate) bool {
	ufrag := c.ufrag()
	return ufrag == "" || len(g.ufrags) == 0 || g.ufrags[ufrag]
}

func (g *gathering) add(c candidate) {
	at := g.first
	if i := c.section(g.mids); !g.bundled && i >= 0 {
		at = i
	}
	line := attrCandidate + c.text()
	if key := g.key(at, line); !g.there[key] {
		g.there[key] = true
		g.answer.media[at] = append(g.answer.media[at], line)
	}
}
