package bridge

import (
	"context"

	"github.com/beckon-rtc/beckon/topics"
)

// Bus is an MQTT session without the socket: a door's client on the broker, as
// the identity it was connected as. What arrives goes to the inbox that Connect
// was given.
//
// Publish and Subscribe return an [*topics.Error] when the identity may not, the
// receiver is not there, and so on: nothing is dropped in silence. What goes
// wrong later (a held message that nobody fetched, a takeover) arrives in the
// inbox as a message "error" from [topics.Server].
type Bus interface {
	// Publish sends payload to a. A presence is retained, and joins the room;
	// an empty one leaves it. The payload is not changed by either side from
	// then on. A nil error means delivered, or held for a peer that is expected
	// back.
	Publish(a topics.Address, payload []byte) error

	// Subscribe adds filters. What is retained under them is in the inbox, with
	// Retained set, when Subscribe returns; so is "hello" when one of them is
	// the peer's own inbox, which joins the room.
	Subscribe(filters ...string) error

	// Close ends the session. When the client left of its own will its peers go
	// at once; otherwise its connection was lost and the grace begins. It is
	// idempotent, and nothing arrives in the inbox after it returned.
	Close(left bool)
}

// Inbox takes what arrives for a session. It is called in order, by one
// goroutine at a time, with locks of the bus held: it must neither block nor
// call the bus. An error means that it has no room for more, and the sender is
// told; one of code [topics.Offline] that its client's connection is ending, and
// the message waits for the next one. An error message that is about no room says
// that the bus has ended the session.
type Inbox func(topics.Delivery) error

// Connect opens a session of id, which came through the door via ("ws" or
// "http").
type Connect func(id topics.Identity, via string, inbox Inbox) (Bus, error)

// Authenticate turns credentials into an identity. The error is an
// [*topics.Error] (401, 403) for the client to see, or the server's own trouble.
type Authenticate func(context.Context, topics.Credentials) (topics.Identity, error)
