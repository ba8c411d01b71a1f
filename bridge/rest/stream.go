package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// kept is for how many heartbeats a frame is remembered, for a client that missed it.
const kept = 4

const eventStream = "text/event-stream"

// stream is an event stream. The goroutine of its request runs it.
type stream struct {
	h       *Handler
	place   place
	session *bridge.Session
	queue   queue
	goaway  chan time.Duration // of one: the server stops, and the stream ends in that time

	w       http.ResponseWriter
	to      *http.ResponseController
	ids     numbering
	written uint64       // frames of the session
	marks   [kept]uint64 // written, at the last heartbeats

	mu       sync.Mutex // guards what follows
	key      string     // of the session, once it is known
	why      string     // it ended, for the log
	replaced bool       // another connection took over
}

// events opens a stream, and returns when it has ended.
func (h *Handler) events(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	s := &stream{
		h: h, place: place{r.PathValue("room"), r.PathValue("me")}, w: w, to: http.NewResponseController(w),
		queue:  queue{limit: h.cfg.Queue, more: make(chan struct{}, 1)},
		goaway: make(chan time.Duration, 1),
	}
	if h.isClosing() {
		return h.later(w, r)
	}
	if err := s.join(ctx, r); err != nil {
		return err
	}
	defer s.session.Lost()
	if !h.enter(s) {
		return h.later(w, r)
	}
	defer h.leave(s)
	began := time.Now()
	s.run(r.Context())
	h.cfg.Logger.Info("event stream ended", "conn", s.session.Conn(), "peer", s.place.peer, "room", s.place.room,
		"why", s.reason(), "after", time.Since(began).Round(time.Millisecond))
	return nil
}

// join has the request's identity join the room.
func (s *stream) join(ctx context.Context, r *http.Request) error {
	h, query := s.h, r.URL.Query()
	var presence []byte
	if text := query.Get("presence"); text != "" {
		presence = []byte(text)
		if !json.Valid(presence) {
			return topics.Errorf(topics.BadRequest, `"presence" in the query must be a JSON object`)
		}
	}
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = query.Get("lastEventId")
	}
	last := parseLastEvent(id)
	if h.isReplaced(last.key) {
		return topics.Errorf(topics.Replaced, "another connection of %s took over; to take over from it, come without Last-Event-ID", s.place.peer)
	}
	admit, err := h.cfg.Hold(r)
	if err != nil {
		return err
	}
	defer admit()
	shown := bridge.Credentials(r)
	s.session = bridge.NewSession(&h.bridge, bridge.Client{Credentials: shown, Out: s.out, End: s.end})
	if err := s.session.Join(ctx, joinFrame(s.place.room, s.place.peer, presence, last)); err != nil {
		s.session.Close(true) // it may be on the bus, in no room
		return err
	}
	if joined, ok := s.queue.first(); ok {
		s.ids = numberingOf(joined.Text())
	}
	s.mu.Lock()
	s.key = s.ids.key
	s.mu.Unlock()
	s.remember()
	return nil
}

// run writes until the stream ends.
func (s *stream) run(client context.Context) {
	_ = s.to.SetReadDeadline(time.Time{}) // the server's is for the request
	header := s.w.Header()
	header.Set("Content-Type", eventStream)
	header.Set("X-Accel-Buffering", "no") // nginx
	s.w.WriteHeader(http.StatusOK)
	defer func() { // of the answer's end
		_ = s.to.SetWriteDeadline(time.Now().Add(s.h.cfg.Write))
	}()
	if err := s.write(retryIn(time.Second, 2*time.Second)); err != nil { // not all at once
		return
	}
	heartbeat := time.NewTicker(s.h.cfg.Heartbeat)
	defer heartbeat.Stop()
	taken, waiting, taking := time.NewTimer(s.h.cfg.Taken), false, uint64(0)
	defer taken.Stop()
	var end <-chan time.Time
	for s.pump() {
		if !waiting && s.written > taking {
			waiting, taking = true, s.written
			taken.Reset(s.h.cfg.Taken)
		}
		var err error
		select {
		case <-s.queue.more:
		case <-heartbeat.C:
			err = s.beat()
		case <-taken.C:
			if waiting {
				s.session.Taken(taking)
				waiting = false
			}
		case in := <-s.goaway:
			end = time.After(in)
			err = s.write(goaway(in))
		case <-end:
			s.because(errGoingAway.Message)
			return
		case <-s.h.life.Done():
			s.because(errGoingAway.Message)
			return
		case <-client.Done():
			s.because("the client is gone")
			return
		}
		if err != nil {
			return
		}
	}
}

// pump writes what waits. False: the stream is over.
func (s *stream) pump() bool {
	for s.h.life.Err() == nil {
		var out []byte
		var took []bridge.Frame
		over := false
		for len(out) < bridge.Chunk {
			frame, ok, last := s.queue.take()
			if over = last; !ok {
				break
			}
			out = appendEvent(out, s.ids.id(), frame.Text())
			took = append(took, frame)
		}
		if len(took) > 0 && s.write(out) != nil {
			return false
		}
		for _, frame := range took {
			s.queue.wrote(frame)
			s.written++
		}
		if over {
			return false
		}
		if len(took) == 0 {
			break
		}
	}
	return true
}

// beat shows that the stream lives, to the client and to whatever is between, and
// forgets what the client must have got.
func (s *stream) beat() error {
	if s.marks[0] > 0 {
		s.session.Seen(s.marks[0])
	}
	copy(s.marks[:], s.marks[1:])
	s.marks[kept-1] = s.written
	return s.write([]byte(":\n\n"))
}

func (s *stream) write(p []byte) (err error) {
	for len(p) > 0 && err == nil {
		n := min(len(p), bridge.Chunk)
		if err = s.to.SetWriteDeadline(time.Now().Add(s.h.cfg.Write)); err == nil {
			_, err = s.w.Write(p[:n])
		}
		if err == nil {
			err = s.to.Flush()
		}
		p = p[n:]
	}
	if err != nil {
		s.because("the connection was lost, or too slow: " + err.Error())
		s.queue.end(true)
	}
	return err
}

// end ends the stream for the session.
func (s *stream) end(why *topics.Error) {
	s.because(why.Message)
	if why.Code == topics.Replaced && why != bridge.Moved {
		s.mu.Lock()
		s.replaced = true
		s.mu.Unlock()
		s.remember()
	}
	s.queue.end(why.Code == topics.Busy) // a full queue is not waited for
}

// remember has the handler know the session if it was taken over.
func (s *stream) remember() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replaced && s.key != "" {
		s.h.replace(s.key)
	}
}

func (s *stream) because(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == "" {
		s.why = why
	}
}

func (s *stream) reason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// out is the session's way to the client.
func (s *stream) out(frame bridge.Frame) error { return s.queue.push(frame) }
