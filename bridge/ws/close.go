package ws

import (
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/topics"
)

// The close codes that no error has. For the others see [topics.Code.Close].
const (
	closePing = 4012                           // silent for two pings
	noReturn  = 4500                           // from here on a client does not come again
	closeLost = websocket.CloseAbnormalClosure // for the log: there was no close frame
)

// maxReason is the length of the longest close reason (RFC 6455, 5.5).
const maxReason = 123

// ending is why a connection ends.
type ending struct {
	code   int
	why    string // for the client and the log
	answer bool   // to a close frame of the client, who knows why
}

// endingOf closes with the code that stands for e.
func endingOf(e *topics.Error) ending { return ending{code: e.Code.Close(), why: e.Message} }

// payload is the ending as the payload of a close frame.
func (e ending) payload() []byte {
	if e.answer { // with the same code (RFC 6455, 5.5.1)
		return websocket.FormatCloseMessage(e.code, "")
	}
	return websocket.FormatCloseMessage(e.code, short(e.why))
}

// left reports whether a client that closed with code left of its own will.
func left(code int) bool {
	switch code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived:
		return true
	}
	return false
}

// short cuts a reason to what fits, between characters.
func short(why string) string {
	if len(why) <= maxReason {
		return why
	}
	end := maxReason
	for !utf8.RuneStart(why[end]) {
		end--
	}
	return why[:end]
}
