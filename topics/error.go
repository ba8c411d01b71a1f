package topics

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Code says what went wrong, in the numbers of HTTP and SIP.
type Code int

// The codes of an error message.
const (
	BadRequest   Code = 400
	Unauthorized Code = 401
	Forbidden    Code = 403
	NotFound     Code = 404
	Timeout      Code = 408
	Replaced     Code = 409
	TooLarge     Code = 413
	RateLimited  Code = 429
	Offline      Code = 480
	Busy         Code = 486
	Internal     Code = 500
	Unavailable  Code = 503
)

// fate is one row of the table of errors: how each door says it.
type fate struct {
	code      Code
	reason    string
	temporary bool
	mqtt      byte // MQTT 5 reason code of PUBACK and PUBREC, 3.4.2.1
	http      int
	close     int // WebSocket close code, where it ends a connection
}

var fates = []fate{
	{BadRequest, "bad-request", false, 0x99, http.StatusBadRequest, 4501},
	{Unauthorized, "unauthorized", false, 0x87, http.StatusUnauthorized, 4510},
	{Forbidden, "forbidden", false, 0x87, http.StatusForbidden, 4510},
	{NotFound, "not-found", false, 0x10, http.StatusNotFound, 4501},
	{Timeout, "timeout", true, 0x80, http.StatusGatewayTimeout, 4008},
	{Replaced, "replaced", false, 0x80, http.StatusConflict, 4511},
	{TooLarge, "too-large", false, 0x95, http.StatusRequestEntityTooLarge, 4501},
	{RateLimited, "rate-limited", true, 0x97, http.StatusTooManyRequests, 4029},
	{Offline, "offline", true, 0x10, http.StatusConflict, 4000},
	{Busy, "busy", true, 0x97, http.StatusServiceUnavailable, 4008},
	{Internal, "internal", true, 0x80, http.StatusInternalServerError, 4000},
	{Unavailable, "unavailable", true, 0x80, http.StatusServiceUnavailable, 4001},
}

func (c Code) fate() fate {
	for _, f := range fates {
		if f.code == c {
			return f
		}
	}
	return Internal.fate()
}

// Codes lists every code there is, in order.
func Codes() []Code {
	codes := make([]Code, len(fates))
	for i, f := range fates {
		codes[i] = f.code
	}
	return codes
}

// Reason is the code in a word, such as "offline".
func (c Code) Reason() string { return c.fate().reason }

// Temporary reports whether trying again can help.
func (c Code) Temporary() bool { return c.fate().temporary }

// MQTT is the reason code of a PUBACK or PUBREC in MQTT 5 (3.4.2.1, 3.5.2.1).
func (c Code) MQTT() byte { return c.fate().mqtt }

// HTTP is the status of an HTTP answer.
func (c Code) HTTP() int { return c.fate().http }

// Close is the WebSocket close code when this error ends a connection: 4000 to
// 4499 for "reconnect", 4500 to 4999 for "do not".
func (c Code) Close() int { return c.fate().close }

// Error is what a sender is told about something it sent. It travels as the
// message "error" from the [Server] and is a Go error, too.
type Error struct {
	Code       Code
	Message    string  // for people: what was wrong, with which value
	RetryAfter float64 // seconds, for RateLimited
	Session    string  // of the message it is about
	To         string  // whom the message was for
	About      string  // type of the message
}

// Errorf makes an Error with a message for people.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError returns err as an *Error; one of another kind becomes Internal, whose
// message does not show it, since it may say what is not the client's business.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Errorf(Internal, "the server failed; its log says more")
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, e.Code.Reason(), e.Message)
}

// Of returns a copy of e that says which message, to whom, it is about.
func (e *Error) Of(m Message, to string) *Error {
	about := *e
	about.Session, about.About, about.To = m.Session, m.Type, to
	return &about
}

// MarshalJSON writes the message "error".
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type       string  `json:"type"`
		Code       Code    `json:"code"`
		Reason     string  `json:"reason"`
		Message    string  `json:"message"`
		Temporary  bool    `json:"temporary"`
		RetryAfter float64 `json:"retryAfter,omitempty"`
		Session    string  `json:"session,omitempty"`
		To         string  `json:"to,omitempty"`
		About      string  `json:"about,omitempty"`
	}{"error", e.Code, e.Code.Reason(), e.Message, e.Code.Temporary(), e.RetryAfter, e.Session, e.To, e.About})
}

// Payload is the message "error" as it travels.
func (e *Error) Payload() []byte {
	p, err := json.Marshal(e)
	if err != nil {
		panic(err) // text and numbers only
	}
	return p
}
