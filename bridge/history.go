package bridge

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// maxTold is how much memory the frames may take that a client which has a connection
// was told and is not known to have, but for the last frame. More is refused, as by a
// queue that is full: a socket takes megabytes that its client never reads.
const maxTold = 2 << 20

// history is the frames that a client was told and may not have got. Each has a
// number: how many there were up to it.
type history struct {
	last   uint64 // number of the newest frame
	taken  uint64 // number of the newest one that the client has most likely got
	frames []Frame
	size   int               // memory of frames
	all    *atomic.Int64     // counts the memory of all histories; nil: nobody counts
	given  map[string]uint64 // by room: number of the newest frame when its messages were given back
}

// full reports whether there is no room for more, of which what the client has most
// likely got is forgotten first.
func (h *history) full() bool {
	for h.size >= maxTold && h.last-uint64(len(h.frames)) < h.taken {
		h.forget(1)
	}
	return h.size >= maxTold
}

func (h *history) add(frame Frame) {
	h.last++
	h.frames = append(h.frames, frame)
	h.grow(cost(frame))
}

// cost is the memory that a frame takes, a short one too: its text, with what is in
// reserve, and that of two slices, a time, its sender and a flag.
func cost(frame Frame) int { return cap(frame.Head) + len(frame.Rest) + 96 }

func (h *history) grow(n int) {
	h.size += n
	if h.all != nil {
		h.all.Add(int64(n))
	}
}

// seen forgets the frames up to number n, which the client has.
func (h *history) seen(n uint64) {
	if first := h.last - uint64(len(h.frames)); n > first && n <= h.last {
		h.forget(int(n - first))
	}
}

func (h *history) forget(n int) {
	for _, f := range h.frames[:n] {
		h.grow(-cost(f))
	}
	clear(h.frames[:n])
	if h.frames = h.frames[n:]; len(h.frames) == 0 {
		h.frames = nil
	}
}

// since returns the frames after number n; ok is false when some are forgotten, it
// is too late for one of them, whose sender is to be told so, or there never were so
// many.
func (h *history) since(n uint64) (frames []Frame, ok bool) {
	first := h.last - uint64(len(h.frames))
	if n < first || n > h.last {
		return nil, false
	}
	frames = h.frames[n-first:]
	now := time.Now()
	return frames, !slices.ContainsFunc(frames, func(f Frame) bool { return f.late(now) })
}

// giveBack returns the messages among the frames that were said to the client in a
// room, and that it most likely has not got, in order, as they came from the bus;
// errors about what it said are among them. Each is given back once: the next
// connection has it then.
func (h *history) giveBack(room, me string) []topics.Delivery {
	var all []topics.Delivery
	first := h.last - uint64(len(h.frames))
	for i, frame := range h.frames {
		if first+uint64(i) < max(h.given[room], h.taken) || !saysRoom(frame.Head, room) {
			continue
		}
		if d, ok := said(frame.Text()); ok {
			d.Dst, d.Handed, d.Until, d.Sender = me, true, frame.until, frame.sender
			all = append(all, d)
		}
	}
	if len(all) > 0 {
		if h.given == nil {
			h.given = make(map[string]uint64)
		}
		h.given[room] = h.last
	}
	return all
}

// saysRoom reports whether a frame begins with that room, as those do that [said]
// reads back: so not all of what a client was told is read for each room it was in.
func saysRoom(head []byte, room string) bool {
	rest, ok := bytes.CutPrefix(head[inside(head):], []byte(`"room":"`))
	return ok && len(rest) > len(room) && string(rest[:len(room)]) == room && rest[len(room)] == '"'
}

// blank puts "pong" in the place of what was said of a room, but for errors: a client
// that is in the room no more does not get it again, and the numbers of the other
// frames stay.
func (h *history) blank(room string) {
	for i, frame := range h.frames {
		if tells(frame.Head, room) {
			h.frames[i] = inOne(pong)
			h.grow(cost(h.frames[i]) - cost(frame))
		}
	}
}

// tells reports whether the frame that begins with head tells of a room, but for
// errors. It reads no further than it must, and nothing of a message itself.
func tells(head []byte, room string) bool {
	in, failed := false, false
	for m := range topics.Members(head) {
		switch string(m.Name) {
		case "room":
			if in = string(bytes.Trim(m.Value, `"`)) == room; !in {
				return false
			}
		case "from":
			return in
		case "type":
			failed = string(m.Value) == `"`+topics.TypeError+`"`
		}
	}
	return in && !failed
}

// said reads a frame back that told of a direct message. The answer to a frame with
// an id is none.
func said(frame []byte) (d topics.Delivery, ok bool) {
	failed, about, answer, direct := false, false, false, true
	for m := range topics.Members(frame) {
		switch string(m.Name) {
		case "room":
			d.Room, _ = m.Text()
		case "from":
			d.Src, _ = m.Text()
		case "type":
			failed = string(m.Value) == `"`+topics.TypeError+`"`
		case "about":
			about = true
		case "id":
			answer = true
		case "all":
			direct = false
		}
	}
	d.Kind = topics.Direct
	switch {
	case !direct:
		return d, false
	case d.Src != "":
		d.Payload = topics.Cut(frame, topics.Routing)
		d.Message, _ = topics.CheckMessage(d.Payload, d.Address)
		return d, true
	case failed && about && !answer: // what is said without that is about the connection
		d.Src, d.Type = topics.Server, topics.TypeError
		d.Payload = topics.Cut(frame, func(name []byte) bool { return string(name) == "room" })
		return d, true
	}
	return d, false
}
