package topics

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Role is what an identity may do in a room.
type Role uint8

// The roles, each spelled by its String. With me for the identity's own name:
//
//	           publish                          subscribe
//	Peer       to/+/me, all/me, peers/me        to/me/+, all/+, peers/+
//	Viewer     to/{of}/me, to/_/me, peers/me    to/me/+, peers/{of}
//	Observer   nothing                          any filter inside the room
//	Admin      as Peer, as anyone               any filter inside the room
const (
	Peer Role = iota + 1
	Viewer
	Observer
	Admin
)

var roles = [...]string{Peer: "peer", Viewer: "viewer", Observer: "observer", Admin: "admin"}

func (r Role) String() string {
	if int(r) < len(roles) && roles[r] != "" {
		return roles[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// Grant is a role in a room.
type Grant struct {
	Room string // a name, a beginning of names with a trailing "*", or "*" for any
	Role Role
	Of   string // the peer whom a Viewer may watch and call
}

func (g Grant) covers(room string) bool {
	if prefix, ok := strings.CutSuffix(g.Room, "*"); ok {
		return strings.HasPrefix(room, prefix)
	}
	return g.Room == room
}

// Identity is who a connection is and what it may do. It comes from
// credentials, never from a client id or a payload. Everything that is not
// granted is denied.
type Identity struct {
	Name      string
	Account   string // whose credentials these are, when Name was made up (Guest); "": Name's own
	Grants    []Grant
	Device    bool      // stays listed when it is offline
	Publish   []string  // filters of the topics outside the root where it may publish
	Subscribe []string  // filters outside the root: it may subscribe to what stays within one
	Expires   time.Time // when the credentials end, and the connection with them; zero: never
	Source    string    // the kind of credentials it came from, for package broker/auth
	Stamp     string    // which credentials, for package broker/auth: opaque, no secret
}

// MayPublish reports whether id may publish at a.
func (id Identity) MayPublish(a Address) bool {
	for _, g := range id.Grants {
		if g.covers(a.Room) && g.mayPublish(id.Name, a) {
			return true
		}
	}
	return false
}

func (g Grant) mayPublish(me string, a Address) bool {
	if a.Kind == Wake || a.Src == Server {
		return false
	}
	switch g.Role {
	case Peer:
		return a.Src == me
	case Viewer:
		return a.Src == me && (a.Kind == Presence || a.Kind == Direct && (a.Dst == g.Of || a.Dst == Server))
	case Admin:
		return true
	default:
		return false
	}
}

// MaySubscribe reports whether everything that f covers may be read by id. A
// filter over all rooms needs a grant for all rooms.
func (id Identity) MaySubscribe(f Filter) bool {
	for _, g := range id.Grants {
		if room := f.Room(); room == "" && g.Room != "*" || room != "" && !g.covers(room) {
			continue
		}
		if g.maySubscribe(id.Name, f) {
			return true
		}
	}
	return false
}

func (g Grant) maySubscribe(me string, f Filter) bool {
	inbox := ValidName(me) && f.within("to", me, "*") // "+" or "_" would be others' inboxes
	switch g.Role {
	case Peer:
		return inbox || f.within("all", "*") || f.within("peers", "*")
	case Viewer:
		return inbox || ValidName(g.Of) && f.within("peers", g.Of)
	case Observer, Admin:
		return true
	default:
		return false
	}
}

// MayJoin reports whether id may be a peer in room. It may not if its name or
// the room's is no name.
func (id Identity) MayJoin(room string) bool {
	return ValidName(room) && ValidName(id.Name) && id.MayPublish(Address{Room: room, Kind: Presence, Src: id.Name})
}

// Guest is the identity of a peer that the server makes for a request of id: it is
// called name, and may talk with the peer of in room, and with nobody else, for as
// long as the credentials of id last. The error (403) says that id itself may not
// talk with that peer.
func (id Identity) Guest(name, room, of string) (Identity, error) {
	if !ValidName(of) || !id.MayPublish(Address{Room: room, Kind: Direct, Dst: of, Src: id.Name}) {
		return Identity{}, Errorf(Forbidden, "%s may not call %s in %s", id.Name, of, room)
	}
	return Identity{
		Name: name, Account: cmp.Or(id.Account, id.Name),
		Grants:  []Grant{{Room: room, Role: Viewer, Of: of}},
		Expires: id.Expires, Source: id.Source, Stamp: id.Stamp,
	}, nil
}

// Filters returns what a peer of that identity subscribes to when it joins
// room: its inbox last, since that makes it reachable.
func (id Identity) Filters(root Root, room string) []string {
	head := string(root) + "/" + version + "/" + room + "/"
	var filters []string
	for _, f := range []string{"peers/+", "all/+"} {
		if parsed, err := root.ParseFilter(head + f); err == nil && id.MaySubscribe(parsed) {
			filters = append(filters, head+f)
		}
	}
	if filters == nil {
		for _, g := range id.Grants {
			f := head + "peers/" + g.Of
			if g.Role == Viewer && g.covers(room) && ValidName(g.Of) && !slices.Contains(filters, f) {
				filters = append(filters, f)
			}
		}
	}
	return append(filters, root.Inbox(room, id.Name))
}

// Credentials are what a client showed when it connected, whichever door it
// came by. Nothing in them is proven.
type Credentials struct {
	Username string
	Password string // MQTT password or HTTP Basic; may be a token
	Token    string // bearer token
	Name     string // the name it would like: MQTT client id, or "peer" of the first join
	Remote   netip.Addr
	TLS      []*x509.Certificate // verified chain of a client certificate, leaf first
}
