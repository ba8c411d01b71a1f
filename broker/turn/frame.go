package turn

import (
	"encoding/binary"
	"errors"
	"time"
)

const (
	headerSize = 20 // of a STUN message, RFC 8489, 5
	maxFrame   = 1596
	cookie     = 0x2112A442
)

var errFrame = errors.New("it is no STUN message and no channel data of a sensible length")

// frameSize is how long a frame is that begins with head, 4 bytes or more. In a
// stream channel data is padded (RFC 8656, 12.5).
func frameSize(head []byte) (int, error) {
	size := int(binary.BigEndian.Uint16(head[2:4]))
	switch head[0] >> 6 {
	case 0b00:
		if size%4 != 0 {
			return 0, errFrame
		}
		size += headerSize
	case 0b01:
		size = (4 + size + 3) &^ 3
	default:
		return 0, errFrame
	}
	if size > maxFrame {
		return 0, errFrame
	}
	return size, nil
}

// sound reports whether a datagram is one frame.
func sound(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	size, err := frameSize(b)
	if err != nil {
		return false
	}
	if b[0]>>6 == 0b01 {
		return len(b) >= 4+int(binary.BigEndian.Uint16(b[2:4]))
	}
	return len(b) == size && binary.BigEndian.Uint32(b[4:8]) == cookie
}

// What the answers to requests begin with that make or keep an allocation.
const (
	allocateSuccess = 0x0103
	refreshSuccess  = 0x0104
	attrLifetime    = 0x000d
)

// lifetime is what an answer grants an allocation (RFC 8656, 18.2).
func lifetime(answer []byte) (time.Duration, bool) {
	if !sound(answer) || answer[0]>>6 != 0 {
		return 0, false
	}
	if kind := binary.BigEndian.Uint16(answer); kind != allocateSuccess && kind != refreshSuccess {
		return 0, false
	}
	for b := answer[headerSize:]; len(b) >= 4; {
		kind, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
		if size > len(b) {
			break
		}
		if kind == attrLifetime && size == 4 {
			return time.Duration(binary.BigEndian.Uint32(b)) * time.Second, true
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0, false
}
