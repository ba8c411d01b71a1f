package broker

import "github.com/beckon-rtc/beckon/topics"

// What may be retained outside the rooms, in all. One identity has half of each, so
// that it cannot use up what others need.
const (
	maxRetained      = 10_000   // topics
	maxRetainedBytes = 64 << 20 // of the messages
)

// retained is the messages that stand outside the rooms, by topic.
type retained struct {
	messages map[string]standing
	all      share
	of       map[string]share // by the name of the identity that published them last
}

type standing struct {
	*message
	by string
}

// share is so much of what is retained.
type share struct{ topics, bytes int }

func newRetained() retained {
	return retained{messages: make(map[string]standing), of: make(map[string]share)}
}

// put keeps m in the place of what stands at its topic, or says why it cannot.
func (r *retained) put(by string, m *message) error {
	err := r.add(by, m)
	if err != nil {
		r.expire()
		err = r.add(by, m)
	}
	return err
}

func (r *retained) add(by string, m *message) error {
	old := r.messages[m.topic]
	next := share{1, m.weight()}
	all, theirs := r.all.plus(next), r.of[by].plus(next)
	if old.message != nil {
		was := share{1, old.weight()}
		if all = all.minus(was); old.by == by {
			theirs = theirs.minus(was)
		}
	}
	switch {
	case all.beyond(maxRetained, maxRetainedBytes):
		return topics.Errorf(topics.Busy, "what is retained outside the rooms would be %d topics and %d bytes, there can be %d and %d",
			all.topics, all.bytes, maxRetained, maxRetainedBytes)
	case theirs.beyond(maxRetained/2, maxRetainedBytes/2):
		return topics.Errorf(topics.Busy, "what %s has retained outside the rooms would be %d topics and %d bytes, it can have %d and %d",
			by, theirs.topics, theirs.bytes, maxRetained/2, maxRetainedBytes/2)
	}
	r.remove(m.topic)
	r.messages[m.topic] = standing{m, by}
	r.all, r.of[by] = all, theirs
	return nil
}

// remove lets go of what stands at a topic, if anything does.
func (r *retained) remove(topic string) {
	old, ok := r.messages[topic]
	if !ok {
		return
	}
	delete(r.messages, topic)
	was := share{1, old.weight()}
	r.all = r.all.minus(was)
	if r.of[old.by] = r.of[old.by].minus(was); r.of[old.by].topics == 0 {
		delete(r.of, old.by)
	}
}

// expire lets go of what has expired [MQTT-3.3.2-5].
func (r *retained) expire() {
	for topic, m := range r.messages {
		if m.expired() {
			r.remove(topic)
		}
	}
}

func (s share) plus(o share) share  { return share{s.topics + o.topics, s.bytes + o.bytes} }
func (s share) minus(o share) share { return share{s.topics - o.topics, s.bytes - o.bytes} }

func (s share) beyond(topics, bytes int) bool { return s.topics > topics || s.bytes > bytes }
