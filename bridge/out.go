package bridge

import "time"

// Frame is a frame that goes out, in two parts which follow each other: what is said
// to one client, and the rest, which is shared with other receivers of a message and
// is not to be changed. So a message is not copied for each of them, nor is what is
// remembered of it; that halves the garbage of a call.
type Frame struct {
	Head, Rest []byte

	// Follows says that the frame belongs to the one before it and goes with that,
	// however much is waiting: what happened while a client joined, after the answer.
	Follows bool

	until  time.Time // of a direct message: when it is too late for it
	sender any       // of a direct message, for the bus
}

// inOne is a frame in one part.
func inOne(text []byte) Frame { return Frame{Head: text} }

// late reports whether it is too late for the message that the frame tells of.
func (f Frame) late(now time.Time) bool { return !f.until.IsZero() && !f.until.After(now) }

// Chunk is how many bytes a door writes at once, for which a client has the write
// timeout: so it also says how slow one may be.
const Chunk = 16 << 10

// Cost is what the frame takes of a queue's limit while it waits to be written: memory,
// not only its bytes.
func (f Frame) Cost() int { return f.Len() + 48 }

// Len is the length of the frame in bytes.
func (f Frame) Len() int { return len(f.Head) + len(f.Rest) }

// AppendTo appends the text of the frame.
func (f Frame) AppendTo(b []byte) []byte { return append(append(b, f.Head...), f.Rest...) }

// Text is the text of the frame; it is not to be changed.
func (f Frame) Text() []byte {
	if f.Rest == nil {
		return f.Head
	}
	return f.AppendTo(make([]byte, 0, f.Len()))
}
