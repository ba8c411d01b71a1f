package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// kind says what a message is.
type kind byte

const (
	offer     kind = 'o'
	answer    kind = 'a'
	candidate kind = 'c'
	bye       kind = 'b'
	msg       kind = 'm'
)

// mark is what a message says of itself, in a member of its own at its very end:
// a server may put routing members in front of the others, and that is all it may
// change. So it is read without reading the rest.
//
//	..., "bench":"o 0000002a 000001a4 00000000075bcd15"}    without the spaces
type mark struct {
	kind   kind
	call   uint32        // which call of the pair
	number uint32        // which message of its sender to this receiver, from 1
	sent   time.Duration // on the clock of the run
}

const (
	markBegins = `"bench":"`
	markEnds   = `"}`
	markLength = len(markBegins) + 33 + len(markEnds)
)

func (m mark) append(b []byte) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint32(raw[0:], m.call)
	binary.BigEndian.PutUint32(raw[4:], m.number)
	binary.BigEndian.PutUint64(raw[8:], uint64(m.sent))
	b = append(append(b, markBegins...), byte(m.kind))
	return append(hex.AppendEncode(b, raw[:]), markEnds...)
}

// readMark finds the mark of a message of this program.
func readMark(payload []byte) (m mark, ok bool) {
	if len(payload) < markLength {
		return m, false
	}
	end := payload[len(payload)-markLength:]
	if string(end[:len(markBegins)]) != markBegins || string(end[len(end)-len(markEnds):]) != markEnds {
		return m, false
	}
	var raw [16]byte
	if _, err := hex.Decode(raw[:], end[len(markBegins)+1:len(end)-len(markEnds)]); err != nil {
		return m, false
	}
	return mark{
		kind:   kind(end[len(markBegins)]),
		call:   binary.BigEndian.Uint32(raw[0:]),
		number: binary.BigEndian.Uint32(raw[4:]),
		sent:   time.Duration(binary.BigEndian.Uint64(raw[8:])),
	}, true
}

// texts are the messages of a run, each from its type to where the session's name
// goes, and from there to the mark.
type texts struct {
	description string // an SDP as a JSON text, of --size bytes
	filling     string // of msg
}

// candidateLine is of the length that browsers send.
const candidateLine = `"candidate":"candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 198.51.100.17 rport 46154 generation 0 ufrag EsAw network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw",`

// newTexts makes messages whose descriptions, or data, have size bytes.
func newTexts(size int) texts {
	const line = `a=rtpmap:96 H264/90000\r\n` // escapes, as every SDP has them
	sdp := `v=0\r\n`
	sdp += strings.Repeat(line, max(0, size-len(sdp))/len(line))
	return texts{description: sdp + strings.Repeat("x", max(0, size-len(sdp))), filling: strings.Repeat("x", size)}
}

// append appends the message that m says it is.
func (t *texts) append(b []byte, m mark) []byte {
	switch m.kind {
	case offer:
		b = append(session(append(b, `{"type":"offer",`...), m.call), `"sdp":"`...)
		b = append(append(b, t.description...), `",`...)
	case answer:
		b = append(session(append(b, `{"type":"answer",`...), m.call), `"sdp":"`...)
		b = append(append(b, t.description...), `",`...)
	case candidate:
		b = append(session(append(b, `{"type":"candidate",`...), m.call), candidateLine...)
	case bye:
		b = append(session(append(b, `{"type":"bye",`...), m.call), `"reason":"hangup",`...)
	default:
		b = append(append(append(b, `{"type":"msg","data":"`...), t.filling...), `",`...)
	}
	return m.append(b)
}

// session appends the session's name: the number of the call.
func session(b []byte, call uint32) []byte {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], call)
	return append(hex.AppendEncode(append(b, `"session":"`...), raw[:]), `",`...)
}

// readError reads an error of the server.
func readError(payload []byte) (code int, text string, ok bool) {
	if !bytes.Contains(payload, []byte(`"error"`)) {
		return 0, "", false
	}
	var e struct {
		Type    string
		Code    int
		Message string
	}
	if json.Unmarshal(payload, &e) != nil || e.Type != "error" {
		return 0, "", false
	}
	return e.Code, e.Message, true
}

// order knows which of the numbered messages of one sender arrived. It looks back
// over the last 64; what is older counts as doubled.
type order struct {
	highest uint32
	seen    uint64 // bit i: highest-i arrived
}

// arrival is how a message came.
type arrival int

const (
	inOrder arrival = iota
	disordered
	doubled
)

func (o *order) note(number uint32) arrival {
	if number > o.highest {
		o.seen = o.seen<<(number-o.highest) | 1
		o.highest = number
		return inOrder
	}
	behind := o.highest - number
	if behind >= 64 || o.seen&(1<<behind) != 0 {
		return doubled
	}
	o.seen |= 1 << behind
	return disordered
}
