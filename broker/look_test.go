package broker

import (
	"fmt"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

func TestRoomsAndPeersAreThoseThatAnIdentityMaySee(t *testing.T) {
	b := newBroker(t, Config{})
	camera := peerOf("cam1", "garage")
	camera.Device = true
	b.open(t, camera).join("garage").s.Close(true) // it stays listed
	for _, name := range []string{"bob", "alice"} {
		b.open(t, peerOf(name, "garage")).join("garage")
	}
	b.open(t, peerOf("eve", "attic")).join("attic")
	as := func(role topics.Role, room, of string) topics.Identity {
		return topics.Identity{Name: "me", Grants: []topics.Grant{{Room: room, Role: role, Of: of}}}
	}
	for _, c := range []struct {
		id     topics.Identity
		rooms  map[string]int
		garage string // peers, or "403"
	}{
		{as(topics.Peer, "garage", ""), map[string]int{"garage": 3}, "alice bob cam1"},
		{as(topics.Peer, "*", ""), map[string]int{"garage": 3, "attic": 1}, "alice bob cam1"},
		{as(topics.Admin, "gar*", ""), map[string]int{"garage": 3}, "alice bob cam1"},
		{as(topics.Observer, "*", ""), map[string]int{"garage": 3, "attic": 1}, "alice bob cam1"},
		{as(topics.Viewer, "*", "cam1"), map[string]int{"garage": 1}, "cam1"},
		{as(topics.Viewer, "garage", "cam2"), map[string]int{}, ""},
		{as(topics.Peer, "attic", ""), map[string]int{"attic": 1}, "403"},
		{as(topics.Peer, "cellar", ""), map[string]int{}, "403"},
		{topics.Identity{Name: "me"}, map[string]int{}, "403"},
	} {
		if got := b.Rooms(c.id); fmt.Sprint(got) != fmt.Sprint(c.rooms) {
			t.Errorf("%v sees the rooms %v, want %v", c.id.Grants, got, c.rooms)
		}
		peers, err := b.Peers(c.id, "garage")
		got := ""
		for i, d := range peers {
			if i > 0 {
				got += " "
			}
			got += d.Src
		}
		if err != nil {
			got = fmt.Sprint(int(topics.AsError(err).Code))
		}
		if got != c.garage {
			t.Errorf("%v sees %q, want %q", c.id.Grants, got, c.garage)
		}
	}
	if peers, err := b.Peers(as(topics.Peer, "*", ""), "empty"); err != nil || len(peers) != 0 {
		t.Errorf("an empty room has %v, %v", peers, err)
	}
	if _, there := b.rooms.Load("empty"); there {
		t.Error("to look at a room makes it")
	}
}
