package guard

import (
	"errors"
	"fmt"
)

// The reason codes of MQTT 5 that the guard gives (section 2.4).
const (
	malformed      = 0x81
	protocolError  = 0x82
	badVersion     = 0x84
	timedOut       = 0x8D
	badFilter      = 0x8F
	badTopic       = 0x90
	badAlias       = 0x94
	tooLarge       = 0x95
	tooFast        = 0x96
	quotaExceeded  = 0x97
	longestText    = 200 // bytes of a Violation's text
	longestExcerpt = 64  // bytes of a client's value shown in it
)

var (
	// ErrQueueFull is what Write returns when the packet does not fit behind
	// what already waits. Nothing of it was taken; the connection lives on.
	ErrQueueFull = errors.New("guard: outgoing queue is full")

	// ErrSlowReceiver is wrapped by [Conn.Err] when the client did not take
	// within [Limits].Write what was written to it.
	ErrSlowReceiver = errors.New("guard: receiver too slow")
)

// A Violation is why the guard refused what a client sent, or that it sent too
// little in time.
type Violation struct {
	Reason byte   // reason code of MQTT 5
	Text   string // what was wrong with which value; never a payload or password
}

func (v *Violation) Error() string { return fmt.Sprintf("guard: %s (0x%02X)", v.Text, v.Reason) }

// Timeout reports whether the client was cut because a time passed.
func (v *Violation) Timeout() bool { return v.Reason == timedOut }

func violation(reason byte, format string, args ...any) *Violation {
	text := fmt.Sprintf(format, args...)
	if len(text) > longestText {
		text = text[:longestText] // %q keeps foreign text in ASCII, so no rune is cut
	}
	return &Violation{Reason: reason, Text: text}
}

// excerpt shows a value of the client without letting it fill a log.
func excerpt(b []byte) string {
	if len(b) > longestExcerpt {
		return fmt.Sprintf("%+q...", b[:longestExcerpt])
	}
	return fmt.Sprintf("%+q", b)
}
