package bridge

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/beckon-rtc/beckon/topics"
)

// The types of frame that are the session's business. All others are messages.
const (
	typeJoin     = "join"
	typePresence = "presence"
	typeRefresh  = "refresh"
	typeLeave    = "leave"
	typePing     = "ping"
)

// maxID is how many characters an id has at most.
const maxID = 64

// frame is what a session needs to know of a client's frame. Slices are parts
// of the text.
type frame struct {
	said     topics.Reading // the message: the frame without its id, room and to
	kind     string         // "type"
	id       []byte         // JSON text, nil where there is none
	room     string         // "" where there is none
	to       string
	direct   bool   // there is a "to"
	peer     []byte // JSON text, as token and presence
	token    []byte
	presence []byte
	resume   []byte
	seen     []byte
}

// member is a bit for each member of a frame that must not be given twice.
type member uint16

const (
	memberType member = 1 << iota
	memberID
	memberRoom
	memberTo
	memberPeer
	memberToken
	memberPresence
	memberResume
	memberSeen
)

// readFrame reads the members of text that a session looks at, in one pass
// that checks the whole text. With an error it returns what it understood, so
// that the answer can carry the id.
func readFrame(text []byte) (frame, error) {
	var r frameReader
	said, err := topics.Read(text, r.member)
	r.said, r.kind = said, said.Known().Type
	if err != nil {
		r.note(err)
	}
	if r.wrong == nil {
		r.wrong = r.check()
	}
	return r.frame, r.wrong
}

type frameReader struct {
	frame
	once, twice member // given so often
	wrong       error  // the first mistake
}

func (r *frameReader) note(err error) {
	if r.wrong == nil {
		r.wrong = err
	}
}

func (r *frameReader) given(m member) {
	r.twice |= r.once & m
	r.once |= m
}

// member takes a member, and reports whether it is for the session only: the message
// goes without it.
func (r *frameReader) member(m topics.Member) (routing bool) {
	switch string(m.Name) {
	case "type":
		r.given(memberType)
	case "id":
		r.given(memberID)
		if validID(m) {
			r.id = m.Value
		} else {
			r.note(topics.Errorf(topics.BadRequest, `"id" must be a number or a text of at most %d characters`, maxID))
		}
		return true
	case "room":
		r.given(memberRoom)
		r.room = r.name("room", m)
		return true
	case "to":
		r.given(memberTo)
		r.direct = true
		r.to = r.name("peer", m)
		return true
	case "from", "all":
		r.note(topics.Errorf(topics.BadRequest, "%q is written by the server, leave it out", m.Name))
	case "peer":
		r.given(memberPeer)
		r.peer = m.Value
	case "token":
		r.given(memberToken)
		r.token = m.Value
	case "presence":
		r.given(memberPresence)
		r.presence = m.Value
	case "resume":
		r.given(memberResume)
		r.resume = m.Value
	case "seen":
		r.given(memberSeen)
		r.seen = m.Value
	}
	return false
}

// name reads a routing member that must name a what.
func (r *frameReader) name(what string, m topics.Member) string {
	s, ok := m.Text()
	if !ok {
		r.note(topics.Errorf(topics.BadRequest, "%q must be a text, the name of a %s", m.Name, what))
		return ""
	}
	if s == topics.Server && what == "peer" {
		return s
	}
	if err := topics.CheckName(what, s); err != nil {
		r.note(err)
		return ""
	}
	return s
}

// check says what is wrong with the frame as a whole.
func (r *frameReader) check() error {
	twice := r.twice & (memberType | memberID | memberRoom | memberTo)
	switch r.kind {
	case typeJoin, typePresence, typeRefresh:
		twice = r.twice
	case "":
		return topics.Errorf(topics.BadRequest, `the frame has no "type" that is a text`)
	}
	if twice != 0 {
		return topics.Errorf(topics.BadRequest, "a member of the frame that says where it goes or what it is (type, id, room, to, peer, token, presence, resume, seen) is given twice")
	}
	return nil
}

// about is what an error tells of the frame.
func (f *frame) about() topics.Message {
	m := f.said.Known()
	if len(m.Type) > topics.MaxName {
		m.Type = ""
	}
	return m
}

func validID(m topics.Member) bool {
	if c := m.Value[0]; c == '-' || '0' <= c && c <= '9' {
		return len(m.Value) <= maxID
	}
	if len(m.Value) <= maxID {
		return m.Value[0] == '"'
	}
	s, ok := m.Text()
	return ok && utf8.RuneCountInString(s) <= maxID
}

// textOf reads the JSON text of a member that must be a text, "" where there
// is none.
func textOf(name string, value []byte) (string, error) {
	if value == nil {
		return "", nil
	}
	s, ok := topics.Member{Value: value}.Text()
	if !ok {
		return "", topics.Errorf(topics.BadRequest, "%q must be a text", name)
	}
	return s, nil
}

// presenceOf makes the payload of a presence from the member of a frame:
// online, when it does not say. It is not a part of the frame.
func presenceOf(value []byte) (payload []byte, online bool, err error) {
	if value == nil {
		return []byte(topics.PresenceOnline), true, nil
	}
	if value[0] != '{' {
		return nil, false, topics.Errorf(topics.BadRequest, `"presence" must be an object; to go, send leave`)
	}
	said := false
	for m := range topics.Members(value) {
		said = said || string(m.Name) == "online"
	}
	if said {
		payload = bytes.Clone(value)
	} else {
		payload = splice(value, []byte(`"online":true`))
	}
	status, err := topics.CheckPresence(payload)
	return payload, status.Online, err
}

// splice returns object with members, which are JSON text without a comma at
// either end, in front of its own. Cutting them out again gives object, byte
// for byte.
func splice(object, members []byte) []byte {
	at := inside(object)
	out := make([]byte, 0, len(object)+len(members)+1)
	out = append(append(out, object[:at]...), members...)
	if at < len(object) && object[at] != '}' {
		out = append(out, ',')
	}
	return append(out, object[at:]...)
}

// inside is where the first member of an object stands, or its closing brace.
func inside(object []byte) int {
	at := bytes.IndexByte(object, '{') + 1
	for at < len(object) && isSpace(object[at]) {
		at++
	}
	return at
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// headRoom is space for the routing members of any frame that goes out but an
// error with a long id.
type headRoom [2*topics.MaxName + 64]byte

// messageFrame is the frame of a message, said to the client or to all. Its rest is
// a part of the payload.
func messageFrame(d topics.Delivery) Frame {
	payload := d.Payload
	if d.Routed {
		payload = topics.Cut(payload, topics.Routing)
	}
	at := inside(payload)
	const members = `"room":"","from":"","all":true,`
	head := make([]byte, 0, at+len(members)+len(d.Room)+len(d.Src))
	head = append(append(append(head, payload[:at]...), `"room":"`...), d.Room...)
	head = append(append(append(head, `","from":"`...), d.Src...), '"')
	if d.Kind == topics.All {
		head = append(head, `,"all":true`...)
	}
	if at < len(payload) && payload[at] != '}' {
		head = append(head, ',')
	}
	return Frame{Head: head, Rest: payload[at:], until: d.Until, sender: d.Sender}
}

// presenceFrame is the frame of a presence; an empty one becomes null.
func presenceFrame(d topics.Delivery) []byte {
	const rest = `{"type":"presence","room":"","peer":"","presence":null}`
	out := make([]byte, 0, len(rest)+len(d.Room)+len(d.Src)+len(d.Payload)) // it may be remembered for long
	out = append(append(out, `{"type":"presence","room":"`...), d.Room...)
	out = append(append(out, `","peer":"`...), d.Src...)
	out = append(out, `","presence":`...)
	return append(appendPresence(out, d.Payload), '}')
}

func appendPresence(out, payload []byte) []byte {
	if len(payload) == 0 {
		return append(out, "null"...)
	}
	return append(out, payload...)
}

// errorFrame is the frame of an error, given as the message that it travels as.
func errorFrame(room string, id, payload []byte) []byte {
	var space headRoom
	head := space[:0]
	if room != "" {
		head = append(append(append(head, `"room":"`...), room...), '"')
	}
	if id != nil {
		if room != "" {
			head = append(head, ',')
		}
		head = append(append(head, `"id":`...), id...)
	}
	if len(head) == 0 {
		return bytes.Clone(payload)
	}
	return splice(payload, head)
}

// okFrame answers the frame with that id.
func okFrame(id []byte) []byte {
	const rest = `{"type":"ok","id":}`
	return append(append(append(make([]byte, 0, len(rest)+len(id)), `{"type":"ok","id":`...), id...), '}')
}

// pong is never changed, so that those a client is told share their text.
var pong = []byte(`{"type":"pong"}`)

// joinedHead is the beginning of a frame that answers a join.
func joinedHead(size int, id []byte, room, peer string) []byte {
	out := append(make([]byte, 0, size+len(id)+256), `{"type":"joined"`...)
	if id != nil {
		out = append(append(out, `,"id":`...), id...)
	}
	out = append(append(out, `,"room":"`...), room...)
	return append(append(append(out, `","peer":"`...), peer...), '"')
}

// joinedEnd is its end: how often the door pings, and the key of the session.
func joinedEnd(out []byte, ping int, key string) []byte {
	out = strconv.AppendInt(append(out, `,"ping":`...), int64(ping), 10)
	return append(append(append(out, `,"resume":"`...), key...), `"}`...)
}

// resumedFrame answers a join that resumed a session; what it missed after the
// frame seen follows.
func resumedFrame(id []byte, room, peer, key string, seen uint64, ping int) []byte {
	out := append(joinedHead(0, id, room, peer), `,"resumed":true,"seen":`...)
	return joinedEnd(strconv.AppendUint(out, seen, 10), ping, key)
}

// joinedFrame answers a join: who else is there, and what hello said. refused says
// that the client wanted to resume a session, which could not be.
func joinedFrame(id []byte, room, peer, key string, refused bool, j *joining, ping int) []byte {
	size := len(j.hello)
	for _, d := range j.peers {
		size += len(d.Payload) + len(d.Src) + 32
	}
	out := joinedHead(size, id, room, peer)
	if refused {
		out = append(out, `,"resumed":false`...)
	}
	out = append(out, `,"peers":[`...)
	for i, d := range j.peers {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, `{"peer":"`...), d.Src...)
		out = append(append(out, `","presence":`...), d.Payload...)
		out = append(out, '}')
	}
	ice, ttl, most := []byte("[]"), []byte("0"), []byte("0")
	for m := range topics.Members(j.hello) {
		switch string(m.Name) {
		case "iceServers":
			ice = m.Value
		case "ttl":
			ttl = m.Value
		case "max":
			most = m.Value
		}
	}
	out = append(append(out, `],"iceServers":`...), ice...)
	out = append(append(out, `,"ttl":`...), ttl...)
	out = append(append(out, `,"max":`...), most...)
	return joinedEnd(out, ping, key)
}

// errorCode is the code of a message "error", 0 where it has none; about tells
// whether it is about a message.
func errorCode(payload []byte) (code topics.Code, about bool) {
	for m := range topics.Members(payload) {
		switch string(m.Name) {
		case "code":
			n, _ := strconv.Atoi(string(m.Value))
			code = topics.Code(n)
		case "about":
			about = true
		}
	}
	return code, about
}

// whole cuts an incomplete character off the end of text.
func whole(text []byte) []byte {
	for i := 1; i <= min(utf8.UTFMax-1, len(text)); i++ {
		if c := text[len(text)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(text[len(text)-i:]) {
				return text[:len(text)-i]
			}
			break
		}
	}
	return text
}
