package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// lastEvent is what a client says of the last event that it has got.
type lastEvent struct {
	key  string // of the session, "" for none
	seen uint64
	said bool // how many
}

// parseLastEvent reads "{key}.{n}". Of anything else it makes a key that there is
// none of, so that the client is told that it starts over.
func parseLastEvent(id string) lastEvent {
	key, number, _ := strings.Cut(id, ".")
	if n, err := strconv.ParseUint(number, 10, 63); err == nil {
		return lastEvent{key, n, true}
	}
	return lastEvent{key: id}
}

// joinFrame is the frame that a request for a stream stands for. The presence is
// JSON text, or nil.
func joinFrame(room, me string, presence []byte, last lastEvent) []byte {
	frame, err := json.Marshal(struct {
		Type     string          `json:"type"`
		Room     string          `json:"room"`
		Peer     string          `json:"peer"`
		Presence json.RawMessage `json:"presence,omitempty"`
		Resume   string          `json:"resume,omitempty"`
		Seen     *uint64         `json:"seen,omitempty"`
	}{"join", room, me, presence, last.key, last.number()})
	if err != nil {
		panic(err) // the presence was checked, the rest is text
	}
	return frame
}

func (l lastEvent) number() *uint64 {
	if !l.said {
		return nil
	}
	return &l.seen
}

// numbering gives frames their ids: the key of the session, and how many frames
// there were.
type numbering struct {
	key  string
	next uint64
}

// numberingOf reads "joined", which is the first frame of all. One that resumes a
// session has no number: it has that of the frame before it.
func numberingOf(joined []byte) numbering {
	n := numbering{next: 1}
	for m := range topics.Members(joined) {
		switch string(m.Name) {
		case "resume":
			n.key, _ = m.Text()
		case "seen":
			n.next, _ = strconv.ParseUint(string(m.Value), 10, 64)
		}
	}
	return n
}

// id is that of the next frame.
func (n *numbering) id() []byte {
	id := strconv.AppendUint(append([]byte(n.key), '.'), n.next, 10)
	n.next++
	return id
}

// retryIn has a client come back after that time, and up to spread more (WHATWG HTML,
// 9.2.6).
func retryIn(least, spread time.Duration) []byte {
	return fmt.Appendf(nil, "retry: %d\n\n", (least + rand.N(spread)).Milliseconds())
}

// goaway is the event that the server stops, of no session.
func goaway(in time.Duration) []byte {
	return appendEvent(nil, nil, bridge.Goaway(in))
}

// appendEvent appends a frame as an event (WHATWG HTML, 9.2.5). A line end in it is
// space between the tokens of JSON, so any will do.
func appendEvent(out, id, frame []byte) []byte {
	if id != nil {
		out = append(append(append(out, "id: "...), id...), '\n')
	}
	if bytes.IndexByte(frame, '\r') >= 0 {
		frame = bytes.ReplaceAll(bytes.ReplaceAll(frame, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	}
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		out = append(append(append(out, "data: "...), line...), '\n')
	}
	return append(out, '\n')
}
