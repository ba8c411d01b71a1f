package whip

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// description is an SDP text (RFC 8866) in lines. It is read with tolerance (bare
// line feeds, empty lines) and written strictly; what stands in a line stays, but
// for what some clients write wrong in candidates.
type description struct {
	session []string   // the lines before the first m=
	media   [][]string // each begins with its m= line
}

// parseSDP reads text. The error (400) says which line is none of SDP.
func parseSDP(text string) (description, error) {
	var d description
	lines, err := linesOf(text)
	if err != nil {
		return d, err
	}
	if len(lines) == 0 || lines[0] != "v=0" {
		return d, topics.Errorf(topics.BadRequest, "the body is not SDP: it begins with no line v=0")
	}
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "m="):
			d.media = append(d.media, []string{line})
			if err := checkMedia(len(d.media)); err != nil {
				return d, err
			}
		case len(d.media) == 0:
			d.session = append(d.session, line)
		default:
			last := len(d.media) - 1
			d.media[last] = append(d.media[last], line)
		}
	}
	return d, nil
}

// maxMedia is how many m-sections a description or a fragment may have: a call of many
// has one for each track.
const maxMedia = 256

func checkMedia(n int) error {
	if n > maxMedia {
		return topics.Errorf(topics.BadRequest, "the body has more than %d m-sections", maxMedia)
	}
	return nil
}

// linesOf splits SDP, or a fragment of it, into its lines.
func linesOf(text string) ([]string, error) {
	if !utf8.ValidString(text) {
		return nil, topics.Errorf(topics.BadRequest, "the body is not SDP: it is not UTF-8")
	}
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		if len(line) < 2 || line[0] < 'a' || line[0] > 'z' || line[1] != '=' || strings.ContainsAny(line, "\x00\r") {
			return nil, topics.Errorf(topics.BadRequest, "the body is not SDP: it has a line %s", bridge.Excerpt(line))
		}
		lines = append(lines, mended(line))
	}
	return lines, nil
}

// mended sets right what some clients write of a candidate, and others refuse: its
// name twice, component 0 for RTP, which is 1, an IPv6 address in brackets (RFC
// 8839, 5.1).
func mended(line string) string {
	text, ok := strings.CutPrefix(line, attrCandidate)
	if !ok {
		return line
	}
	for strings.HasPrefix(text, "candidate:") {
		text = text[len("candidate:"):]
	}
	fields := strings.Split(text, " ")
	if len(fields) > 4 && fields[1] == "0" {
		fields[1] = "1"
	}
	if len(fields) > 4 && strings.HasPrefix(fields[4], "[") {
		fields[4] = strings.Trim(fields[4], "[]")
	}
	return attrCandidate + strings.Join(fields, " ")
}

// The lines that are looked at.
const (
	attrCandidate = "a=candidate:"
	attrEnd       = "a=end-of-candidates"
	attrUfrag     = "a=ice-ufrag:"
	attrPwd       = "a=ice-pwd:"
	attrMid       = "a=mid:"
	attrOptions   = "a=ice-options:"
	attrBundle    = "a=group:BUNDLE "
)

// String is the text with the line ends that the standard asks for.
func (d description) String() string {
	var b strings.Builder
	for _, section := range d.sections() {
		for _, line := range section {
			b.WriteString(line)
			b.WriteString("\r\n")
		}
	}
	return b.String()
}

// sections are the lines before the first m=, and those of each.
func (d description) sections() [][]string {
	return append([][]string{d.session}, d.media...)
}

// value is what follows prefix in the first line that begins with it.
func (d description) value(prefix string) string {
	for _, section := range d.sections() {
		if v := valueOf(section, prefix); v != "" {
			return v
		}
	}
	return ""
}

func valueOf(lines []string, prefix string) string {
	for _, line := range lines {
		if v, ok := strings.CutPrefix(line, prefix); ok {
			return v
		}
	}
	return ""
}

func (d description) has(prefix string) bool {
	return slices.ContainsFunc(d.sections(), func(section []string) bool {
		return slices.ContainsFunc(section, func(line string) bool { return strings.HasPrefix(line, prefix) })
	})
}

// mids are the names of the m-sections, "" of one that has none.
type mids []string

// mids reads them. That goes through all lines: once for a fragment, not for each part.
func (d description) mids() mids {
	names := make(mids, len(d.media))
	for i, m := range d.media {
		names[i] = valueOf(m, attrMid)
	}
	return names
}

// section is the index of the m-section that is called mid, -1 if none is.
func (m mids) section(mid string) int {
	if mid == "" {
		return -1
	}
	return slices.Index(m, mid)
}

// checkOffer says (422) what keeps an offer from being one of WHEP, or of WHIP.
func (d description) checkOffer(kind string) error {
	unusable := func(format string, args ...any) error {
		return unprocessable("the offer cannot be used: "+format, args...)
	}
	switch {
	case len(d.media) == 0:
		return unusable("it has no media (m=)")
	case d.value(attrUfrag) == "" || d.value(attrPwd) == "":
		return unusable("it has no a=ice-ufrag or no a=ice-pwd")
	case !d.has("a=fingerprint:"):
		return unusable("it has no a=fingerprint")
	}
	wrong := map[string]string{"whep": "sendonly", "whip": "recvonly"}[kind] // RFC 9725, 4.2
	for _, m := range d.media {
		if way := d.direction(m); way != wrong && way != "inactive" {
			return nil
		}
	}
	if kind == "whep" {
		return unusable("it would send only, and WHEP is for receiving; to send use /whip/")
	}
	return unusable("it would receive only, and WHIP is for sending; to receive use /whep/")
}

// direction is which way the media of an m-section go (RFC 8866, 6.7).
func (d description) direction(m []string) string {
	for _, lines := range [][]string{m, d.session} {
		for _, way := range []string{"sendrecv", "sendonly", "recvonly", "inactive"} {
			if slices.Contains(lines, "a="+way) {
				return way
			}
		}
	}
	return "sendrecv"
}

// complete reports whether an answer has all the candidates that there will be. A
// device says so by a=end-of-candidates, or in its presence, that it does not
// trickle. One that says nothing of it but has candidates, and no ice-options that
// it trickles (RFC 8838, 4.1), does not.
func (d description) complete(trickle *bool) bool {
	switch {
	case d.has(attrEnd):
		return true
	case trickle != nil:
		return !*trickle
	default:
		return d.has(attrCandidate) && !d.saysTrickle()
	}
}

func (d description) saysTrickle() bool {
	return slices.ContainsFunc(d.sections(), func(section []string) bool {
		return slices.Contains(strings.Fields(valueOf(section, attrOptions)), "trickle")
	})
}

// restarted is an offer with what a fragment says of new ICE: its ufrag, password
// and candidates in the place of the old (RFC 9725, 4.3.3), as the next version of
// the session (RFC 3264, 8).
func (d description) restarted(f fragment) description {
	d = d.clone()
	for _, section := range d.sections() {
		for i, line := range section {
			switch {
			case strings.HasPrefix(line, attrUfrag):
				section[i] = attrUfrag + f.ufrag
			case strings.HasPrefix(line, attrPwd):
				section[i] = attrPwd + f.pwd
			case strings.HasPrefix(line, "o="):
				section[i] = nextVersion(line)
			}
		}
	}
	old := func(line string) bool {
		return strings.HasPrefix(line, attrCandidate) || line == attrEnd || strings.HasPrefix(line, "a=remote-candidates:")
	}
	d.session = slices.DeleteFunc(d.session, old)
	for i := range d.media {
		d.media[i] = slices.DeleteFunc(d.media[i], old)
	}
	mids := d.mids()
	for _, p := range f.parts {
		at := p.section(mids)
		for _, c := range p.candidates {
			d.media[at] = append(d.media[at], attrCandidate+c)
		}
		if p.end {
			d.media[at] = append(d.media[at], attrEnd)
		}
	}
	return d
}

// nextVersion counts the version in an o= line up (RFC 8866, 5.2).
func nextVersion(line string) string {
	fields := strings.Split(line, " ")
	if len(fields) > 2 {
		if n, err := strconv.ParseUint(fields[2], 10, 63); err == nil {
			fields[2] = strconv.FormatUint(n+1, 10)
		}
	}
	return strings.Join(fields, " ")
}

// ice is the part of an answer that is about ICE, as a fragment (RFC 8840, 9; the
// shape is that of RFC 9725, 4.3.3). One candidate ends with CRLF, and any others
// with LF, which readers of SDP take as well (RFC 8866, 9). The client of the
// standards' authors (whip-whep 1.2.0) overlooks those; where it finds two it puts a
// comma between them, which ends the call.
func (d description) ice() string {
	keep := func(line string) bool {
		for _, prefix := range []string{"m=", "a=ice-lite", attrOptions, attrBundle, attrMid, attrUfrag, attrPwd, attrCandidate, attrEnd} {
			if strings.HasPrefix(line, prefix) {
				return true
			}
		}
		return false
	}
	d = d.clone()
	d.session = slices.DeleteFunc(d.session, func(line string) bool { return !keep(line) })
	for i := range d.media {
		d.media[i] = slices.DeleteFunc(d.media[i], func(line string) bool { return !keep(line) })
	}
	most := d.reachable()
	var b strings.Builder
	for _, section := range d.sections() {
		for _, line := range section {
			b.WriteString(line)
			if !strings.HasPrefix(line, attrCandidate) || line == most {
				b.WriteByte('\r')
			}
			if line == most {
				most = "" // it may stand in each section
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// reachable is the candidate that most clients can reach: of a relay, or else one
// that STUN found, or else of the machine itself.
func (d description) reachable() (line string) {
	best := 0
	for _, m := range d.media {
		for _, l := range m {
			rank, fields := 0, strings.Fields(l)
			if !strings.HasPrefix(l, attrCandidate) || len(fields) < 8 || fields[1] != "1" || !strings.EqualFold(fields[2], "udp") {
				continue
			}
			switch address, _ := netip.ParseAddr(fields[4]); {
			case fields[7] == "relay":
				rank = 4
			case fields[7] == "srflx":
				rank = 3
			case address.IsLoopback():
				rank = 1
			default:
				rank = 2
			}
			if rank > best {
				best, line = rank, l
			}
		}
	}
	return line
}

func (d description) clone() description {
	c := description{session: slices.Clone(d.session), media: slices.Clone(d.media)}
	for i := range c.media {
		c.media[i] = slices.Clone(c.media[i])
	}
	return c
}
