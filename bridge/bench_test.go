package bridge_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// stage is sessions in one room of a bus in memory, whose clients take every frame
// and say that they have it.
type stage struct {
	sessions []*bridge.Session
	out      []uint64 // frames, by session
	bytes    int
}

// newStage has n clients join: p0, p1 and so on.
func newStage(t testing.TB, n int) *stage {
	t.Helper()
	house := newHouse()
	house.cfg.Logger = slog.New(slog.DiscardHandler)
	s := &stage{out: make([]uint64, n)}
	for i := range n {
		s.sessions = append(s.sessions, bridge.NewSession(&house.cfg, bridge.Client{
			Out: func(f bridge.Frame) error { s.out[i]++; s.bytes += f.Len(); return nil },
			End: func(why *topics.Error) { t.Error(why) },
		}))
		s.sessions[i].Receive(t.Context(), fmt.Appendf(nil, `{"type":"join","room":"garage","peer":"p%d"}`, i))
	}
	t.Cleanup(func() {
		for _, session := range s.sessions {
			session.Close(true)
		}
		house.cfg.Close()
	})
	s.seen()
	return s
}

// seen has the clients say that they have all.
func (s *stage) seen() {
	for i, session := range s.sessions {
		session.Seen(s.out[i])
	}
}

var (
	longOffer = []byte(`{"to":"p1","type":"offer","session":"k3","sdp":"` + strings.Repeat(`a=rtpmap:96 H264/90000\r\n`, 80) + `"}`)
	candidate = []byte(`{"to":"p1","type":"candidate","session":"k3","candidate":"candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx","sdpMid":"0","sdpMLineIndex":0}`)
	toAll     = []byte(`{"type":"msg","data":"` + strings.Repeat("x", 200) + `"}`)
)

// TestAMessageCostsFewAllocations holds what a message may leave to the collector,
// from a client's frame to the frames that go out: in a direct one the name of the
// receiver, the session, the payload, the head of the frame and its place in what is
// remembered; in one to all the payload, and for each receiver the last two.
func TestAMessageCostsFewAllocations(t *testing.T) {
	for _, tt := range []struct {
		name  string
		peers int
		text  []byte
		want  float64
	}{
		{"an offer", 2, longOffer, 5},
		{"a candidate", 2, candidate, 5},
		{"a message to 50", 51, toAll, 101},
	} {
		s := newStage(t, tt.peers)
		got := testing.AllocsPerRun(200, func() {
			s.sessions[0].Receive(t.Context(), tt.text)
			s.seen()
		})
		if got != tt.want {
			t.Errorf("%s: %v allocations, not %v", tt.name, got, tt.want)
		}
	}
}

func benchmarkSessions(b *testing.B, peers int, text []byte) {
	s := newStage(b, peers)
	s.bytes = 0
	b.ReportAllocs()
	for b.Loop() {
		s.sessions[0].Receive(b.Context(), text)
		s.seen()
	}
	if s.bytes < b.N*(peers-1)*len(text) {
		b.Fatalf("%d bytes went out", s.bytes)
	}
}

func BenchmarkSessionToSession(b *testing.B) {
	b.Run("offer", func(b *testing.B) { benchmarkSessions(b, 2, longOffer) })
	b.Run("candidate", func(b *testing.B) { benchmarkSessions(b, 2, candidate) })
}

func BenchmarkFanOutTo200(b *testing.B) { benchmarkSessions(b, 201, toAll) }
