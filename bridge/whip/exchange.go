package whip

import (
	"context"
	"encoding/json"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// How long an answer waits for the candidates of its device, counted from the
// answer: all that a client without trickle (OBS) gets must be in it.
const (
	settleQuiet = 300 * time.Millisecond // since the newest of at least one
	settleMost  = 1500 * time.Millisecond
)

// exchange is an offer that is under way. The lock of its session guards it.
type exchange struct {
	news       chan struct{} // has one when something changed
	asked      bool          // the device was sent it
	failed     error
	late       bool      // an answer came that was taken for one to an offer before it
	answer     []byte    // message
	answered   time.Time // when it came
	candidates [][]byte  // messages, those before the answer, too
	newest     time.Time // when the last of them came

	gathered *gathering // from what came so far; not guarded, of who looks only
}

// begin makes way for an offer.
func (s *session) begin() *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call = &exchange{news: make(chan struct{}, 1), failed: s.ended}
	return s.call
}

// finish ends it. The answer to an offer that went out may come all the same; but not
// if one came that counted as late: then it was this offer's maybe, and the device had
// missed the one before. To wait for another would swallow the next, and so on.
func (s *session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.call; x.asked && x.answer == nil && !x.late && x.failed == nil {
		now := time.Now()
		s.expire(now)
		s.owed = append(s.owed, now)
	}
	s.call = nil
}

func (x *exchange) fail(why error) {
	x.failed = why
	x.tell()
}

func (x *exchange) take(d topics.Delivery, now time.Time) {
	switch {
	case d.Type == topics.TypeAnswer && x.answer == nil:
		x.answer, x.answered = d.Payload, now
	case d.Type == topics.TypeCandidate && x.hasRoom(d.Payload):
		x.candidates, x.newest = append(x.candidates, d.Payload), now
	}
	x.tell()
}

// hasRoom reports whether a candidate is kept. That there are no more always is, or the
// answer would wait for it.
func (x *exchange) hasRoom(payload []byte) bool {
	if len(x.candidates) < maxCandidates {
		return true
	}
	c, ok := readCandidate(payload)
	return ok && c.Candidate == "" && len(x.candidates) < 2*maxCandidates
}

func (x *exchange) tell() {
	select {
	case x.news <- struct{}{}:
	default:
	}
}

// ask sends an offer and returns the answer, with the candidates in it. When ctx
// ends before there is one it is late.
func (s *session) ask(ctx context.Context, offer description) (description, error) {
	x := s.begin()
	defer s.finish()
	if err := s.say(map[string]string{"type": topics.TypeOffer, "session": s.callID, "sdp": offer.String()}); err != nil {
		return description{}, err
	}
	s.mu.Lock()
	s.asked, x.asked = true, true
	s.mu.Unlock()
	timer := time.NewTimer(settleMost)
	defer timer.Stop()
	for {
		answer, again, err := s.look(x, time.Now())
		if err != nil || again.IsZero() && len(answer.media) > 0 {
			return answer, err
		}
		var settled <-chan time.Time
		if !again.IsZero() {
			timer.Reset(time.Until(again))
			settled = timer.C
		}
		select {
		case <-x.news:
		case <-settled:
		case <-ctx.Done():
			if len(answer.media) > 0 {
				return answer, nil
			}
			return answer, s.late()
		}
	}
}

// late says why there is no answer.
func (s *session) late() error {
	if s.handler.life.Err() != nil {
		return errClosing
	}
	if d := s.status(); !d.online {
		return topics.Errorf(topics.Offline, "%s is offline in %s, and was not woken in time", s.device, s.room)
	}
	return topics.Errorf(topics.Timeout, "%s did not answer in time", s.device)
}

// look says how far the exchange is: the answer as it is by now, if there is one,
// and when to look again; never, if nothing is missing.
func (s *session) look(x *exchange, now time.Time) (answer description, again time.Time, err error) {
	s.mu.Lock()
	failed, payload, answered, candidates, newest := x.failed, x.answer, x.answered, x.candidates, x.newest
	s.mu.Unlock()
	if failed != nil || payload == nil {
		return answer, again, failed
	}
	if x.gathered == nil {
		var said struct{ SDP string }
		_ = json.Unmarshal(payload, &said) // what is no text is no SDP either
		answer, err = parseSDP(said.SDP)
		if err != nil || len(answer.media) == 0 {
			return answer, again, unprocessable("%s answered with what is no SDP", s.device)
		}
		x.gathered = newGathering(answer, answer.complete(s.status().trickle))
	}
	x.gathered.take(candidates)
	if answer = x.gathered.answer; x.gathered.all {
		return answer, again, nil
	}
	again = answered.Add(settleMost)
	if len(x.gathered.there) > 0 {
		quiet := answered
		if newest.After(quiet) {
			quiet = newest
		}
		if quiet = quiet.Add(settleQuiet); quiet.Before(again) {
			again = quiet
		}
	}
	if !now.Before(again) {
		return answer, time.Time{}, nil
	}
	return answer, again, nil
}
