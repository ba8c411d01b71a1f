package guard

import "slices"

// A connection that says little is read into the space that it has of its own.
// One that says much gets up to so many bytes, of those that are free, for as
// long as it does: most of what it says at once then takes one read.
const (
	ownSpace       = 512
	mostSpace      = 8 << 10
	strangersSpace = 1 << 10 // the same before Admit: who sends half a CONNECT can wait with it
)

// stream makes of the bytes that arrive, in whatever pieces, whole packets that
// were checked. They stay where they were read into.
type stream struct {
	checker
	onAck func(Ack) (awaited bool)

	came int  // packets that count for Limits.Packets, since this was looked at
	some bool // a whole packet came, since this was looked at

	own   [ownSpace]byte
	more  *buffer // in place of own; nil when that is enough
	space []byte  // own or more: [from:to] has arrived and was not handed on
	from  int
	to    int
	last  int // bytes of the last read
}

// next checks what has arrived and returns the first packet that is to be handed
// on, nil when none is whole. It is good until room is called. Something wrong is
// reported when it is first.
func (s *stream) next(limit int) ([]byte, *Violation) {
	for s.from < s.to && !s.left {
		b := s.space[s.from:s.to]
		head, size, bad := s.frame(b, limit)
		if bad != nil || size == 0 {
			return nil, bad
		}
		a, bad := s.check(b[:size], head)
		if bad != nil {
			return nil, bad
		}
		s.from += size
		s.some = true
		if a.Type == 0 {
			s.came++
			return b[:size:size], nil
		}
		if s.onAck == nil || !s.onAck(a) {
			s.came++
		}
	}
	return nil, nil // nothing may follow a DISCONNECT [MQTT-3.14.4-2]
}

// begun reports whether a packet is waiting for its end.
func (s *stream) begun() bool { return s.from < s.to && !s.left }

// room offers space, twice as much as came last, behind what is left over. It
// grows with what has arrived and with nothing else, and slower for a client that
// was not admitted.
func (s *stream) room(admitted bool) []byte {
	rest := s.space[s.from:s.to]
	most, growth := strangersSpace, len(rest)/4
	if admitted {
		most, growth = mostSpace, len(rest)/2
	}
	want := len(rest) + min(max(2*s.last, ownSpace/2), most)
	switch {
	case s.space == nil, len(rest) == 0 && want <= ownSpace && s.more != nil:
		s.free()
		s.space = s.own[:]
	case want <= len(s.space) && (len(rest) > 0 || len(s.space) <= keptBuffer):
		copy(s.space, rest)
	default:
		b := newBuffer()
		b.b = slices.Grow(b.b, max(want, len(rest)+growth))
		b.b = append(b.b, rest...)
		s.free()
		s.more, s.space = b, b.b[:cap(b.b)]
	}
	s.from, s.to = 0, len(rest)
	return s.space[s.to:]
}

// arrived says that n bytes were read into room.
func (s *stream) arrived(n int) {
	s.to += n
	s.last = n
}

// free lets the space go, and what is in it.
func (s *stream) free() {
	if s.more != nil {
		s.more.free()
	}
	s.more, s.space, s.from, s.to = nil, nil, 0, 0
}
