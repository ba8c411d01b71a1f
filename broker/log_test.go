package broker

import (
	"log/slog"
	"strings"
	"testing"
)

// What an operator finds in the log of a connection that ended.

// line waits for a line of the log with all of these, and returns it.
func (b *syncBuffer) line(t *testing.T, with ...string) (found string) {
	t.Helper()
	waitFor(t, "a line with "+strings.Join(with, ", "), func() bool {
		for l := range strings.Lines(b.String()) {
			all := true
			for _, w := range with {
				all = all && strings.Contains(l, w)
			}
			if all {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

func TestAReceiverThatIsCutOffLeavesALineWithTheReason(t *testing.T) {
	var log syncBuffer
	s := serve(t, Config{Queue: 20_000, MaxMessage: 10_000, Grace: soon, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	conn := s.dial(t)
	send(t, conn, connect5("otto", "observer"))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text("rtc/v1/garage/#"), []byte{0}))
	receive(t, conn)
	bob := s.client5(t, "bob").subscribe(inbox("garage", "bob"))
	for i := 0; i < 3000 && s.connections() > 1; i++ {
		bob.publish("rtc/v1/garage/all/bob", `{"type":"msg","data":"`+strings.Repeat("x", 9000)+`"}`, 0)
	}
	waitFor(t, "the end of the observer", func() bool { return s.connections() == 1 })
	log.line(t, "level=WARN", `msg="cut off"`, "peer=observer", errSlow.Message)
	log.line(t, "disconnected", "peer=observer", errSlow.Message)
	if n := strings.Count(log.String(), "cut off"); n != 1 {
		t.Errorf("%d lines say so", n)
	}
}

func TestTheLossOfAPeerIsLoggedWithItsReason(t *testing.T) {
	var log syncBuffer
	s := serve(t, Config{Grace: soon, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.client5(t, "alice").subscribe(inbox("garage", "alice")).cut()
	log.line(t, `msg="connection lost" room=garage peer=alice `, "why=")
	conn := s.dial(t)
	send(t, conn, connect5("mallory", ""))
	receive(t, conn)
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "mallory")), []byte{0}))
	receive(t, conn)
	send(t, conn, packet(0x90, []byte{0, 1})) // which only a server sends
	log.line(t, `msg="connection lost" room=garage peer=mallory `, "why=", "SUBACK")
}

func TestAClientThatLeavesIsLoggedAsSuch(t *testing.T) {
	var log syncBuffer
	s := serve(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	conn := s.dial(t)
	send(t, conn, connect5("alice", ""))
	receive(t, conn)
	send(t, conn, []byte{0xE0, 0})
	log.line(t, "disconnected", "peer=alice", "left=true", "why=left")
}
