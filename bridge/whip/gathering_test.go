package whip

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// fold is the answer with candidates.
func (d description) fold(trickled []candidate, all bool) description {
	var messages [][]byte
	for _, c := range trickled {
		text, err := json.Marshal(c)
		if err != nil {
			panic(err) // text and numbers
		}
		messages = append(messages, text)
	}
	g := newGathering(d.clone(), all)
	if len(d.media) > 0 {
		g.take(messages)
	}
	return g.answer
}

// longExchange is the answer of a device that has many lines, and its candidates.
func longExchange(lines, candidates int) (s *session, x *exchange, messages []topics.Delivery) {
	s, x = &session{presence: []byte(trickles)}, &exchange{news: make(chan struct{}, 1)}
	sdp, _ := json.Marshal(answer + strings.Repeat("a=x:y\r\n", lines))
	said := func(kind, payload string) topics.Delivery {
		return topics.Delivery{Message: topics.Message{Type: kind}, Payload: []byte(payload)}
	}
	messages = append(messages, said(topics.TypeAnswer, fmt.Sprintf(`{"type":"answer","sdp":%s}`, sdp)))
	for i := range candidates {
		messages = append(messages, said(topics.TypeCandidate, fmt.Sprintf(`{"type":"candidate","candidate":"candidate:%d 1 udp 1 192.0.2.1 %d typ host","sdpMid":"0"}`, i, 5000+i)))
	}
	return s, x, messages
}

// hearAll has the exchange take the messages, and looks at it after each.
func (s *session) hearAll(t testing.TB, x *exchange, messages []topics.Delivery) (d description) {
	now := time.Now()
	for _, m := range messages {
		x.take(m, now)
		var err error
		if d, _, err = s.look(x, now); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestLinesOfAnAnswerAreNotReadAgainForEachCandidate(t *testing.T) {
	const lines, candidates = 9000, 60
	s, x, messages := longExchange(lines, candidates)
	d := s.hearAll(t, x, messages[:1])
	allocations := testing.AllocsPerRun(1, func() { // once to warm up, which hears it all
		d = s.hearAll(t, x, messages[1:])
	})
	if n := strings.Count(d.String(), attrCandidate); n != candidates {
		t.Errorf("the answer has %d candidates, want %d", n, candidates)
	}
	if most := float64(candidates * 100); allocations > most {
		t.Errorf("%.0f allocations for %d candidates that have come, and as many again, at an answer of %d lines", allocations, candidates, lines)
	}
}

func TestEndOfCandidatesIsHeardAfterMoreThanAreKept(t *testing.T) {
	s, x, messages := longExchange(1, maxCandidates+10)
	messages = append(messages, topics.Delivery{Message: topics.Message{Type: topics.TypeCandidate}, Payload: []byte(`{"type":"candidate","candidate":""}`)})
	d := s.hearAll(t, x, messages)
	if n := strings.Count(d.String(), attrCandidate); n != maxCandidates || !x.gathered.all || !d.has(attrEnd) {
		t.Errorf("the answer has %d candidates, and that these are all: %v", n, x.gathered.all)
	}
	for range 10 * maxCandidates {
		x.take(messages[len(messages)-1], time.Now())
	}
	if n := len(x.candidates); n > 2*maxCandidates {
		t.Errorf("%d messages are kept", n)
	}
}

func BenchmarkCandidatesBesideALongAnswer(b *testing.B) {
	for b.Loop() {
		s, x, messages := longExchange(9000, 40)
		s.hearAll(b, x, messages)
	}
}
