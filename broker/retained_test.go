package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/mochi-mqtt/server/v2/packets"
)

func retain(r *retained, by, topic string, bytes int) error {
	m := &message{topic: topic, Delivery: topics.Delivery{Payload: make([]byte, bytes-len(topic))}}
	return r.put(by, m)
}

// retainAll retains as much as it can in the name of by, and returns how much that is.
func retainAll(t *testing.T, r *retained, by string, bytes int) share {
	t.Helper()
	for i := 0; ; i++ {
		if err := retain(r, by, fmt.Sprintf("home/%s/%d", by, i), bytes); err != nil {
			if topics.AsError(err).Code != topics.Busy {
				t.Fatal(err)
			}
			return r.of[by]
		}
	}
}

func TestOneIdentityRetainsHalfOfWhatMayBe(t *testing.T) {
	for bytes, half := range map[int]share{100: {5000, 500_000}, 64 << 10: {512, 32 << 20}} {
		r := newRetained()
		if got := retainAll(t, &r, "cam1", bytes); got != half {
			t.Errorf("messages of %d bytes: %+v are retained, want %+v", bytes, got, half)
		}
		if err := retain(&r, "cam1", "home/cam1/0", bytes); err != nil {
			t.Errorf("a newer message where one stands: %v", err)
		}
		if got := retainAll(t, &r, "cam2", bytes); got != half {
			t.Errorf("the next one retains %+v, want %+v", got, half)
		}
		if err := retain(&r, "cam3", "home/cam3/0", bytes); topics.AsError(err).Code != topics.Busy {
			t.Errorf("beyond what may be in all: %v", err)
		}
		old := r.messages["home/cam2/0"]
		old.expires = time.Now()
		if err := retain(&r, "cam3", "home/cam3/0", bytes); err != nil || r.of["cam2"].topics != half.topics-1 {
			t.Errorf("when one has expired: %v, then %+v", err, r.of)
		}
		r.remove("home/cam3/0")
		if err := retain(&r, "cam3", "home/cam1/0", bytes); err != nil || r.of["cam1"].topics != half.topics-1 || r.of["cam3"].topics != 1 {
			t.Errorf("a topic that another takes over: %v, then %+v", err, r.of)
		}
		for topic := range r.messages {
			r.remove(topic)
		}
		if r.all != (share{}) || len(r.of) > 0 {
			t.Errorf("of nothing, %+v and %+v are counted", r.all, r.of)
		}
	}
}

func TestPropertiesThatAreRetainedCount(t *testing.T) {
	m := &message{topic: "a/b", Delivery: topics.Delivery{Payload: []byte("on")}, properties: &packets.Properties{
		ContentType: "t", ResponseTopic: "r/t", CorrelationData: make([]byte, 1000), User: []packets.UserProperty{{Key: "k", Val: "v"}},
	}}
	if n := m.weight(); n != 3+2+1+3+1000+2 {
		t.Errorf("it counts for %d bytes", n)
	}
}

func TestAMessageThatCannotBeRetainedIsRefused(t *testing.T) {
	s := serve(t, Config{Authenticate: hub})
	s.outside.mu.Lock()
	retainAll(t, &s.outside.retained, "cam1", 64<<10)
	s.outside.mu.Unlock()
	cam := s.client5(t, "c", as("cam1"))
	if code := cam.publishAs("home/cam1/door", "open", 1, true); code != 0x97 {
		t.Errorf("reason %#x, want 0x97", code)
	}
	if code := s.client5(t, "h", as("hub")).publishAs("home/cam1/door", "open", 1, true); code != 0 {
		t.Errorf("of another identity: reason %#x", code)
	}
}
