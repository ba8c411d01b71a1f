package bridge

import (
	"context"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// Bus is an MQTT session without the socket: a door's client on the broker, as
// the identity it was connected as. What arrives goes to the inbox that Connect
// was given.
//
// Publish, Say and Subscribe return an [*topics.Error] when the identity may not, the
// receiver is not there, and so on: nothing is dropped in silence. What goes
// wrong later (a held message that nobody fetched, a takeover) arrives in the
// inbox as a message "error" from [topics.Server].
type Bus interface {
	// Publish sends payload to a. A presence is retained, and joins the room;
	// an empty one leaves it. The payload is not changed by either side from
	// then on. A nil error means delivered, or held for a peer that is expected
	// back.
	Publish(a topics.Address, payload []byte) error

	// Say is Publish of a message that has been read; so it is not read again.
	Say(a topics.Address, said topics.Reading) error

	// Subscribe adds filters. What is retained under them is in the inbox, with
	// Retained set, when Subscribe returns; so is "hello" when one of them is
	// the peer's own inbox, which joins the room.
	Subscribe(filters ...string) error

	// Identity is who the client is, and what it may do by now.
	Identity() topics.Identity

	// Conn is what the bus calls the session in its log, such as "w7".
	Conn() string

	// Close ends the session. When the client left of its own will its peers go
	// at once; otherwise its connection was lost and the grace begins. It is
	// idempotent, and nothing arrives in the inbox after it returned.
	Close(left bool)

	// Suspend says that the client's connection was lost, and that it may resume
	// the session within that time; zero stands for the grace, which may be none, as a
	// negative time is. Meanwhile its peers stay, what is for them waits, a direct
	// message until its time is over, and nothing but the end arrives in the inbox;
	// then the session ends and its peers are gone.
	Suspend(most time.Duration)

	// Resume says that the client is back. What waited is in the inbox, in order,
	// when it returns. An error means that the session ended, or that not all of it
	// was kept, of what no sender was told: it is of no use any more, and its door
	// closes it.
	Resume() error
}

// Inbox is a door's end of a session. It is called in order, by one goroutine at a
// time, with locks of the bus held: it must neither block nor call the bus.
type Inbox interface {
	// Take takes what arrives. An error means that there is no room for more, and
	// the sender is told; one of code [topics.Offline] that the client's connection
	// is ending, and the message waits for the next one. An error message that is
	// about no room says that the bus has ended the session.
	Take(topics.Delivery) error

	// Back gives back the direct messages that came to the client in a room, and
	// that it may not have got, in order, when its connection is lost for good, or the
	// room is not granted to it any more, of which an error tells the inbox then.
	// Handed tells those that may have reached it, and Until is as it came. Each is
	// given back once; errors about what the client said are among them.
	Back(room string) []topics.Delivery
}

// InboxFunc is the inbox of a door that has delivered what it takes.
type InboxFunc func(topics.Delivery) error

// Take calls f.
func (f InboxFunc) Take(d topics.Delivery) error { return f(d) }

// Back is nothing.
func (f InboxFunc) Back(string) []topics.Delivery { return nil }

// Connect opens a session of id, which came through the door via ("ws" or
// "http").
type Connect func(id topics.Identity, via string, inbox Inbox) (Bus, error)

// Authenticate turns credentials into an identity. The error is an
// [*topics.Error] (401, 403) for the client to see, or the server's own trouble.
type Authenticate func(context.Context, topics.Credentials) (topics.Identity, error)
