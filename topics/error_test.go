package topics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

// fatesOfTheContract are the codes of the contract, with the reason
// codes of the paragraph above it (0x80 where it names none).
var fatesOfTheContract = []struct {
	code   Code
	reason string
	mqtt   byte
}{
	{400, "bad-request", 0x99},
	{401, "unauthorized", 0x87},
	{403, "forbidden", 0x87},
	{404, "not-found", 0x10},
	{408, "timeout", 0x80},
	{409, "replaced", 0x80},
	{413, "too-large", 0x95},
	{429, "rate-limited", 0x97},
	{480, "offline", 0x10},
	{486, "busy", 0x97},
	{500, "internal", 0x80},
	{503, "unavailable", 0x80},
}

func TestErrorsAreThoseOfTheContract(t *testing.T) {
	var codes []Code
	for _, want := range fatesOfTheContract {
		codes = append(codes, want.code)
		if want.code.Reason() != want.reason || want.code.MQTT() != want.mqtt {
			t.Errorf("%d is %q, 0x%02x", want.code, want.code.Reason(), want.code.MQTT())
		}
	}
	if !slices.Equal(Codes(), codes) {
		t.Errorf("the codes are %v, not %v", Codes(), codes)
	}
}

func TestWhatIsTemporaryIsAnsweredAsSomethingToTryAgain(t *testing.T) {
	temporary := []Code{Timeout, RateLimited, Offline, Busy, Internal, Unavailable}
	for _, c := range Codes() {
		if c.Temporary() != slices.Contains(temporary, c) {
			t.Errorf("%d is temporary: %v", c, c.Temporary())
		}
		if reconnect := c.Close() < 4500; reconnect != c.Temporary() || c.Close() < 4000 || c.Close() > 4999 {
			t.Errorf("%d closes a WebSocket with %d", c, c.Close())
		}
		if c.HTTP() < 400 || c.HTTP() > 599 {
			t.Errorf("%d is HTTP %d", c, c.HTTP())
		}
	}
	for code, want := range map[Code]int{NotFound: 404, Offline: 409, Timeout: 504, BadRequest: 400, TooLarge: 413, RateLimited: 429, Unavailable: 503, Unauthorized: 401, Forbidden: 403} {
		if code.HTTP() != want {
			t.Errorf("%d is HTTP %d, not %d", code, code.HTTP(), want)
		}
	}
	for code, want := range map[Code]int{BadRequest: 4501, Unauthorized: 4510, Replaced: 4511, RateLimited: 4029, Unavailable: 4001} {
		if code.Close() != want {
			t.Errorf("%d closes with %d, not %d", code, code.Close(), want)
		}
	}
}

func TestAnErrorTravelsAsInTheExampleOfTheContract(t *testing.T) {
	offer := Message{Type: TypeOffer, Session: "k3"}
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{Errorf(Offline, "%s is offline in %s", "cam1", "garage").Of(offer, "cam1"),
			`{"type":"error","code":480,"reason":"offline","message":"cam1 is offline in garage","temporary":true,"session":"k3","to":"cam1","about":"offer"}`},
		{Errorf(BadRequest, "no"), `{"type":"error","code":400,"reason":"bad-request","message":"no","temporary":false}`},
		{&Error{Code: RateLimited, Message: "slower", RetryAfter: 1.5}, `{"type":"error","code":429,"reason":"rate-limited","message":"slower","temporary":true,"retryAfter":1.5}`},
		{Errorf(BadRequest, "\"\n\xff\u2028<"), `{"type":"error","code":400,"reason":"bad-request","message":"\"\n\ufffd\u2028\u003c","temporary":false}`},
	} {
		if got := string(tt.err.Payload()); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
		if marshalled, err := json.Marshal(tt.err); err != nil || string(marshalled) != tt.want {
			t.Errorf("marshalled %s, %v", marshalled, err)
		}
	}
}

func TestOfSaysWhatAnErrorIsAboutInACopy(t *testing.T) {
	e := Errorf(Busy, "full")
	about := e.Of(Message{Type: TypeOffer, Session: "k3", Routed: true}, "cam1")
	if *e != (Error{Code: Busy, Message: "full"}) {
		t.Errorf("the error itself was changed: %+v", e)
	}
	if *about != (Error{Code: Busy, Message: "full", Session: "k3", To: "cam1", About: "offer"}) {
		t.Errorf("%+v", about)
	}
}

func TestAForeignErrorIsInternalAndKeptFromTheClient(t *testing.T) {
	mine := Errorf(Offline, "away")
	if got := AsError(fmt.Errorf("publish: %w", mine)); got != mine {
		t.Errorf("a wrapped error became %v", got)
	}
	if got := AsError(errors.Join(io.EOF, mine)); got != mine {
		t.Errorf("a joined error became %v", got)
	}
	for _, err := range []error{io.EOF, errors.New("password=hunter2"), ErrOutside, nil} {
		if got := AsError(err); got.Code != Internal || got.Message != "the server failed; its log says more" {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestAnUnknownCodeIsInternal(t *testing.T) {
	if c := Code(418); c.Reason() != "internal" || c.HTTP() != 500 || c.MQTT() != 0x80 || !c.Temporary() {
		t.Errorf("418 is %s, %d", c.Reason(), c.HTTP())
	}
	if got, want := Errorf(NotFound, "no %s", "cam1").Error(), "404 not-found: no cam1"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}
