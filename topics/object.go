package topics

import (
	"bytes"
	"encoding/json"
	"iter"
	"unicode/utf8"
)

// MaxDepth is how deep a message may nest; the object itself is the first level.
const MaxDepth = 16

// Member is one "name": value of a JSON object, as it stands in the payload.
type Member struct {
	Name       []byte // what the name says, escapes resolved
	Value      []byte // the JSON text of the value
	start, end int    // of the whole member in the payload
}

// Text returns the value of a member that is a JSON string.
func (m Member) Text() (string, bool) {
	if len(m.Value) < 2 || m.Value[0] != '"' {
		return "", false
	}
	inner := m.Value[1 : len(m.Value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	var s string
	return s, json.Unmarshal(m.Value, &s) == nil
}

// Members goes through the members of the JSON object that payload must be, in
// order and without decoding their values. It checks the whole text as it goes
// (RFC 8259, UTF-8, MaxDepth) and yields an error, as the last, when something
// is wrong with it: so a caller that stops early has not checked it all.
func Members(payload []byte) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		s := scanner{text: payload}
		if !utf8.Valid(payload) {
			yield(Member{}, Errorf(BadRequest, "the message is not UTF-8"))
			return
		}
		if !s.members(yield) {
			yield(Member{}, s.err)
		}
	}
}

// Cut returns the object payload without the members that drop chooses by
// name, every other byte as it was. The payload must have been checked.
func Cut(payload []byte, drop func(name []byte) bool) []byte {
	var few [4]Member
	dropped := few[:0]
	for m, err := range Members(payload) {
		if err != nil {
			return payload
		}
		if drop(m.Name) {
			dropped = append(dropped, m)
		}
	}
	return Without(payload, dropped)
}

// Without returns the object payload, which has been read with [Members], without
// those of its members, which are in the order they were read in. Every other byte
// is as it was; a comma goes with the member after it, or with the first. It is not
// a part of payload.
func Without(payload []byte, members []Member) []byte {
	out := make([]byte, 0, len(payload))
	kept, first := 0, true // what is before is done; no member was kept yet
	for _, m := range members {
		from, to := m.start, m.end
		if first = first && beginsAt(payload, kept, from); first {
			to = nextAfter(payload, to)
		} else {
			from = endBefore(payload, from)
		}
		out = append(out, payload[kept:from]...)
		kept = to
	}
	return append(out, payload[kept:]...)
}

// beginsAt reports whether the member that begins at a place is the first of those
// that are left, when all before done is settled.
func beginsAt(payload []byte, done, at int) bool {
	return done == at || done == 0 && len(bytes.Trim(payload[:at], whiteSpace)) == 1 // the brace
}

// endBefore is where the member ends that a comma parts from the one at a place.
func endBefore(payload []byte, at int) int {
	comma := bytes.LastIndexByte(payload[:at], ',')
	return len(bytes.TrimRight(payload[:comma], whiteSpace))
}

// nextAfter is where the member begins that follows the one which ends at a place,
// or that place, if it is the last.
func nextAfter(payload []byte, at int) int {
	rest := bytes.TrimLeft(payload[at:], whiteSpace)
	if rest[0] != ',' {
		return at
	}
	return len(payload) - len(bytes.TrimLeft(rest[1:], whiteSpace))
}

const whiteSpace = " \t\r\n"

// scanner reads JSON text once, from left to right.
type scanner struct {
	text []byte
	pos  int
	err  error
}

// members reads the object that the text must be, and hands on each member.
// False means an error; when yield had enough it is true, and the rest unread.
func (s *scanner) members(yield func(Member, error) bool) bool {
	s.space()
	if s.peek() != '{' {
		return s.fail("it is not a JSON object")
	}
	s.pos++
	s.space()
	if s.peek() == '}' {
		s.pos++
		return s.done()
	}
	for {
		m := Member{start: s.pos}
		name, ok := s.name()
		if !ok {
			return false
		}
		valueAt := s.pos
		if !s.value(2) {
			return false
		}
		m.Name, m.Value, m.end = name, s.text[valueAt:s.pos], s.pos
		if !yield(m, nil) {
			return true
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.pos++
			return s.done()
		default:
			return s.fail("a comma or a closing brace is missing")
		}
	}
}

func (s *scanner) done() bool {
	s.space()
	if s.pos < len(s.text) {
		return s.fail("there is more after the object")
	}
	return true
}

// name reads a member's name and the colon, and stands at the value then.
func (s *scanner) name() ([]byte, bool) {
	at := s.pos
	if s.peek() != '"' {
		return nil, s.fail("a member's name is missing")
	}
	escaped, ok := s.str()
	if !ok {
		return nil, false
	}
	name := s.text[at+1 : s.pos-1]
	if escaped {
		var plain string
		if err := json.Unmarshal(s.text[at:s.pos], &plain); err != nil {
			return nil, s.fail("a member's name is malformed")
		}
		name = []byte(plain)
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.fail("a colon is missing")
	}
	s.pos++
	s.space()
	return name, true
}

// value passes over one value. An object or array in it is at the given depth.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{', c == '[':
		if depth > MaxDepth {
			return s.fail("it is deeper than 16 levels")
		}
		return s.nested(c, depth)
	case c == '-', '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	default:
		return s.fail("a value is missing or malformed")
	}
}

func (s *scanner) nested(open byte, depth int) bool {
	end := byte('}')
	if open == '[' {
		end = ']'
	}
	s.pos++
	s.space()
	if s.peek() == end {
		s.pos++
		return true
	}
	for {
		if open == '{' {
			if _, ok := s.name(); !ok {
				return false
			}
		}
		if !s.value(depth + 1) {
			return false
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case end:
			s.pos++
			return true
		default:
			return s.fail("a comma or a closing bracket is missing")
		}
	}
}

// str passes over a string and reports whether there are escapes in it.
func (s *scanner) str() (escaped, ok bool) {
	text, i := s.text, s.pos+1
	for {
		i = plainUntil(text, i)
		s.pos = i
		switch s.peek() {
		case '"':
			s.pos++
			return escaped, true
		case '\\':
			n := escape(text[i:])
			if n == 0 {
				return false, s.fail("an escape is malformed")
			}
			escaped, i = true, i+n
		default:
			if i < len(text) {
				return false, s.fail("there is a control character in a text")
			}
			return false, s.fail("a text does not end")
		}
	}
}

// escape returns the length of the escape that text begins with, 0 if it is none.
func escape(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) < 6 {
			return 0
		}
		for _, c := range text[2:6] {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail("a number is malformed")
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.fail("a number is malformed")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fail("a number is malformed")
		}
	}
	return true
}

func (s *scanner) digits() bool {
	at := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > at
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.text[s.pos:], []byte(w)) {
		return s.fail("a value is missing or malformed")
	}
	s.pos += len(w)
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end (which is no JSON outside a text).
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *scanner) fail(what string) bool {
	s.err = Errorf(BadRequest, "the message cannot be read: %s (at byte %d of %d)", what, s.pos, len(s.text))
	return false
}
