package broker

import (
	"slices"

	"github.com/beckon-rtc/beckon/topics"
)

// Rooms says how many peers id may see, by room; rooms where it sees nobody are
// left out. A device that is offline and stays listed counts.
func (b *Broker) Rooms(id topics.Identity) map[string]int {
	seen := make(map[string]int)
	b.rooms.Range(func(name, _ any) bool {
		if peers, err := b.Peers(id, name.(string)); err == nil && len(peers) > 0 {
			seen[name.(string)] = len(peers)
		}
		return true
	})
	return seen
}

// Peers returns the presences in a room that id may see, by name: those that a
// subscription of its would begin with. The error is an [*topics.Error] (403) when
// there are none that it may see, whoever is there.
func (b *Broker) Peers(id topics.Identity, room string) ([]topics.Delivery, error) {
	filters := b.sights(id, room)
	if filters == nil {
		return nil, topics.Errorf(topics.Forbidden, "%s may not see who is in %s", id.Name, room)
	}
	r := b.enter(room, false)
	if r == nil {
		return nil, nil
	}
	defer r.leave()
	var seen []topics.Delivery
	for _, p := range r.sorted() {
		d := presenceOf(r, p, p.presence).Delivery
		if len(p.presence) > 0 && slices.ContainsFunc(filters, func(f topics.Filter) bool { return f.Match(d.Address) }) {
			seen = append(seen, d)
		}
	}
	return seen, nil
}

// sights are the filters of presences that id may subscribe to in a room.
func (b *Broker) sights(id topics.Identity, room string) (filters []topics.Filter) {
	for _, text := range id.Filters(b.Root, room) {
		f, err := b.Root.ParseFilter(text)
		if err == nil && f.Covers(topics.Presence) && id.MaySubscribe(f) {
			filters = append(filters, f)
		}
	}
	return filters
}
