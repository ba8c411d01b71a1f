package topics

import (
	"bytes"
	"strconv"
)

// MaxPresence is the length of the longest presence, in bytes: everyone in the
// room gets it, and again whenever it changes.
const MaxPresence = 4096

// Status is what the server needs to know of a presence; the rest of it
// travels unread.
type Status struct {
	Online bool
	Max    int // bytes of the longest message the peer takes, 0: no limit of its own
}

// CheckPresence checks the payload of a presence that a client publishes. The
// empty payload is a presence, too: the peer leaves.
func CheckPresence(payload []byte) (Status, error) {
	var s Status
	if len(payload) == 0 {
		return s, nil
	}
	if len(payload) > MaxPresence {
		return s, Errorf(TooLarge, "a presence of %d bytes is longer than the %d it may have", len(payload), MaxPresence)
	}
	var wrong error
	seen := false
	for member, err := range Members(payload) {
		if err != nil {
			return s, err
		}
		switch string(member.Name) {
		case "online":
			s.Online = string(member.Value) == "true"
			if seen || !s.Online && string(member.Value) != "false" {
				wrong = Errorf(BadRequest, `"online" in a presence must be true or false, once`)
			}
			seen = true
		case "max":
			max, err := strconv.Atoi(string(member.Value))
			if err != nil || max < 1 || s.Max != 0 {
				wrong = Errorf(BadRequest, `"max" in a presence is %s, it must be a whole number of bytes of at least 1, once`, quote(string(member.Value)))
			}
			s.Max = max
		case "type":
			wrong = Errorf(BadRequest, `a presence has no "type"; messages go to to/{peer}/{me} or all/{me}`)
		}
	}
	if wrong == nil && !seen {
		wrong = Errorf(BadRequest, `a presence needs "online":true`)
	}
	return s, wrong
}

// Announce is the presence as the server publishes it: with since, when the
// peer came online, in Unix seconds, and via, the door it came by ("mqtt",
// "ws", "http"). The payload must have been checked and not be empty.
func Announce(payload []byte, since int64, via string) []byte {
	own := func(name []byte) bool { return string(name) == "since" || string(name) == "via" }
	for m := range Members(payload) {
		if own(m.Name) {
			payload = Cut(payload, own)
			break
		}
	}
	payload = bytes.TrimRight(payload, " \t\r\n")
	out := append(make([]byte, 0, len(payload)+40), payload[:len(payload)-1]...) // without the brace
	if !bytes.HasSuffix(bytes.TrimRight(out, " \t\r\n"), []byte("{")) {
		out = append(out, ',')
	}
	out = strconv.AppendInt(append(out, `"since":`...), since, 10)
	if via != "" {
		out = append(append(append(out, `,"via":"`...), via...), '"')
	}
	return append(out, '}')
}

// Presences that the server makes itself.
const (
	PresenceOnline  = `{"online":true}`  // of a peer that published none
	PresenceOffline = `{"online":false}` // of a device that stays listed while it is away
)
