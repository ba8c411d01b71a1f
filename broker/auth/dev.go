package auth

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/beckon-rtc/beckon/topics"
)

// Observer is the user name that [Dev] lets in as an observer of every room.
const Observer = "observer"

// Dev lets anyone in under the name they choose, as a peer of any room: the MQTT
// user name, else the client id; the "peer" of the first join. Who names none
// gets a name made up. Under the name [Observer] one sees everything and says
// nothing. It is for a developer's own machine.
func Dev(_ context.Context, c topics.Credentials) (topics.Identity, error) {
	name := c.Username
	if name == "" {
		name = c.Name
	}
	if name == "" {
		name = "guest-" + strings.ToLower(rand.Text()[:8])
	}
	if err := topics.CheckName("peer", name); err != nil {
		return topics.Identity{}, err
	}
	role := topics.Peer
	if name == Observer {
		role = topics.Observer
	}
	return topics.Identity{Name: name, Grants: []topics.Grant{{Room: "*", Role: role}}}, nil
}
