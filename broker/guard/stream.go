package guard

import "slices"

// stream makes of the bytes that arrive, in whatever pieces, whole packets that
// were checked. What comes in whole packets stays where it was read into;
// only what is left over goes into a buffer.
type stream struct {
	checker
	onAck func(Ack) (awaited bool)

	came int     // packets that count for Limits.Packets, since this was looked at
	rest *buffer // arrived and not handed on; nil when there is nothing
	next int     // rest.b[next:good] is checked, to be handed on
	good int
}

// room offers space of at least 512 bytes behind the rest, which grows with
// what has arrived and with nothing else.
func (s *stream) room() []byte {
	s.hold(nil)
	b := slices.Grow(s.rest.b, max(len(s.rest.b)/2, 512))
	s.rest.b = b
	return b[len(b):cap(b)]
}

// arrived says that n bytes were read into room.
func (s *stream) arrived(n int) { s.rest.b = s.rest.b[:len(s.rest.b)+n] }

// hold keeps what could not be handed on.
func (s *stream) hold(b []byte) {
	if s.rest == nil {
		s.rest = newBuffer()
	}
	s.rest.b = append(s.rest.b, b...)
}

// begun reports whether a packet is waiting for its end.
func (s *stream) begun() bool { return s.rest != nil && len(s.rest.b) > s.good }

// hand moves checked packets into p.
func (s *stream) hand(p []byte) (n int) {
	if s.rest == nil {
		return 0
	}
	n = copy(p, s.rest.b[s.next:s.good])
	if s.next += n; s.next == s.good {
		left := copy(s.rest.b, s.rest.b[s.good:])
		s.rest.b, s.next, s.good = s.rest.b[:left], 0, 0
		if left == 0 {
			s.free()
		}
	}
	return n
}

// free lets the buffer go.
func (s *stream) free() {
	if s.rest != nil {
		s.rest.free()
	}
	s.rest, s.next, s.good = nil, 0, 0
}

// sift checks the whole packets in rest, and reports whether there were any. All
// that was good before has been handed on.
func (s *stream) sift(limit int, one bool) (some bool, bad *Violation) {
	if s.rest == nil {
		return false, nil
	}
	b := s.rest.b
	keep, used, bad := s.check(b, limit, one)
	if used == 0 || bad != nil {
		return false, bad
	}
	n := keep + copy(b[keep:], b[used:])
	s.rest.b, s.next, s.good = b[:n], 0, keep
	if n == 0 {
		s.free()
	}
	return true, nil
}

// siftInto does it with bytes that were read into p. What is to be handed on
// is then at its front, keep bytes, and the rest is held.
func (s *stream) siftInto(p []byte, limit int, one bool) (keep int, some bool, bad *Violation) {
	keep, used, bad := s.check(p, limit, one)
	if used < len(p) {
		s.hold(p[used:])
	}
	return keep, used > 0, bad
}

// check walks over the whole packets at the start of b and closes the gaps that
// acknowledgements leave: the first keep bytes are then to be handed on, the
// first used are done with. With one it stops behind the first packet handed on.
// Something wrong is reported when it is first; what comes before is handed on.
func (s *stream) check(b []byte, limit int, one bool) (keep, used int, bad *Violation) {
	for used < len(b) && !s.left && !(one && keep > 0) {
		head, size, bad := s.frame(b[used:], limit)
		if bad == nil && size == 0 {
			break
		}
		var a Ack
		if bad == nil {
			a, bad = s.checker.check(b[used:used+size], head)
		}
		switch {
		case bad != nil && keep > 0:
			return keep, used, nil
		case bad != nil:
			return 0, used, bad
		case a.Type != 0:
			if s.onAck == nil || !s.onAck(a) {
				s.came++
			}
		default:
			s.came++
			keep += copy(b[keep:], b[used:used+size])
		}
		used += size
	}
	if s.left {
		used = len(b) // nothing may follow a DISCONNECT [MQTT-3.14.4-2]
	}
	return keep, used, nil
}
