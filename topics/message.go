package topics

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// Message is what a door or the broker needs to know of a message; the rest of
// it travels unread.
type Message struct {
	Type    string // "offer"
	Session string // "" where there is none
	Routed  bool   // it has routing members of its own, see [Routing]
}

// The types that the contract gives a meaning to. Types of an application's own
// begin with "x-".
const (
	TypeStart     = "start"
	TypeOffer     = "offer"
	TypeAnswer    = "answer"
	TypeCandidate = "candidate"
	TypeBye       = "bye"
	TypeMsg       = "msg"
	TypeICE       = "ice"
	TypeHello     = "hello"
	TypeError     = "error"
)

// Opens reports whether the message begins a session, if it is not open yet.
func (m Message) Opens() bool { return m.Type == TypeOffer || m.Type == TypeStart }

// Ends reports whether the message ends its session.
func (m Message) Ends() bool { return m.Type == TypeBye }

// Routing reports whether name is one of the members that say where a message
// comes from and goes to. In MQTT the topic says it; JSON over WebSocket has
// them in the frame.
func Routing(name []byte) bool {
	switch string(name) {
	case "room", "to", "from", "all":
		return true
	}
	return false
}

// CheckMessage reads the payload of a message that a client sends to a, and checks it
// as [Reading.Check] does.
func CheckMessage(payload []byte, a Address) (Message, error) {
	r, _ := Read(payload, nil)
	return r.Check(a)
}

// typeOf returns the type that a member says, without allocating for the known
// ones.
func typeOf(member Member) string {
	for _, t := range [...]string{TypeCandidate, TypeOffer, TypeAnswer, TypeBye, TypeStart, TypeMsg, TypeICE} {
		if len(member.Value) == len(t)+2 && string(member.Value[1:len(t)+1]) == t {
			return t
		}
	}
	t, _ := member.Text()
	return t
}

// check says what is wrong with the members that a message needs.
func (m Message) check(a Address) *Error {
	switch m.Type {
	case TypeStart, TypeOffer, TypeAnswer, TypeCandidate, TypeBye:
		if m.Session == "" {
			return Errorf(BadRequest, `%s needs a "session", chosen by whoever begins the call`, m.Type)
		}
	case TypeMsg:
	case TypeICE:
		if a.Dst != Server {
			return Errorf(BadRequest, "ice is asked of the server (%s) only", Server)
		}
	case TypeHello, TypeError:
		return Errorf(BadRequest, "only the server sends %s", m.Type)
	case "":
		return Errorf(BadRequest, `the message has no "type"`)
	default:
		if own, ok := strings.CutPrefix(m.Type, "x-"); !ok || !ValidName(own) || len(m.Type) > MaxName {
			return Errorf(BadRequest, `type %s is not known; types of your own are "x-" and a name, at most %d bytes in all`, quote(m.Type), MaxName)
		}
	}
	return nil
}

// member is what the address says for a routing member.
func (a Address) member(name []byte) string {
	switch string(name) {
	case "room":
		return a.Room
	case "from":
		return a.Src
	default:
		return a.Dst
	}
}

// is reports whether the member is the JSON text of s.
func (m Member) is(s string) bool {
	if v := m.Value; len(v) == len(s)+2 && v[0] == '"' && bytes.IndexByte(v, '\\') < 0 {
		return string(v[1:len(v)-1]) == s
	}
	text, ok := m.Text()
	return ok && text == s
}

// Delivery is a message or a presence that arrives at a peer.
type Delivery struct {
	Address
	Payload  []byte // shared between receivers: not to be changed
	Message         // what is known of it; zero for a presence
	Retained bool   // a presence that stood before the subscription
	Handed   bool   // of what a door gives back: its client may have got it

	// Until is when the sender of a direct message is told that it failed, if it
	// reached nobody before. A door gives it back as it came.
	Until time.Time

	// Sender is the bus's own knowledge of who said it, nil if it did not say. A door
	// gives it back as it came, so that what has been taken from that one since is
	// not said in its name.
	Sender any
}

// Bye is the message that ends session in the name of a peer that vanished.
func Bye(session string) []byte {
	return []byte(`{"type":"bye","session":"` + session + `","reason":"gone"}`)
}

// ICEServer is one entry of RTCConfiguration.iceServers (W3C WebRTC, 4.2.2).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Hello is what the server says once to a peer that joined, and, as Type
// "ice", to one that asks for ICE servers.
type Hello struct {
	Type       string      `json:"type"`
	Room       string      `json:"room,omitempty"`
	Peer       string      `json:"peer,omitempty"`
	ICEServers []ICEServer `json:"iceServers"`
	TTL        int         `json:"ttl"`           // seconds that the credentials last
	Max        int         `json:"max,omitempty"` // bytes of the longest message
}

// Payload is the message as it travels.
func (h Hello) Payload() []byte {
	if h.ICEServers == nil {
		h.ICEServers = []ICEServer{}
	}
	p, err := json.Marshal(h)
	if err != nil {
		panic(err) // text and numbers only
	}
	return p
}
