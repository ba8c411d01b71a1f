package topics

import (
	"errors"
	"strings"
)

// Root is the first level or levels of every topic of Beckon, such as "rtc" or
// "acme/rtc". The version level follows it.
type Root string

// DefaultRoot is the root where none is configured.
const DefaultRoot Root = "rtc"

const version = "v1"

// maxRoot leaves room for the longest names in a topic of 256 bytes, which is
// the longest that the broker takes.
const maxRoot = 256 - len("/"+version+"/") - len("/to//") - 3*MaxName

// ErrOutside says that a topic or filter is not one of Beckon's: it does not
// begin with the root and the version. It is ordinary MQTT then.
var ErrOutside = errors.New("outside the rooms")

// Check says what is wrong with r as a root, or returns nil: it takes one or
// two levels which are names, so that topics stay within 8 levels and no
// wildcard or $SYS can stand in it.
func (r Root) Check() error {
	levels := strings.Split(string(r), "/")
	if len(levels) > 2 {
		return Errorf(BadRequest, "root %s has %d levels, it takes one or two", quote(string(r)), len(levels))
	}
	for _, l := range levels {
		if err := CheckName("level of the root", l); err != nil {
			return err
		}
	}
	if len(r) > maxRoot {
		return Errorf(BadRequest, "root %s has %d bytes, it takes at most %d: topics would be longer than 256", quote(string(r)), len(r), maxRoot)
	}
	return nil
}

// Kind tells what a topic carries.
type Kind uint8

// The kinds of topic, each named in the topic by its String.
const (
	Presence Kind = iota + 1 // peers/{peer}
	Direct                   // to/{dst}/{src}
	All                      // all/{src}
	Wake                     // wake/{dst}
)

var kinds = [...]string{Presence: "peers", Direct: "to", All: "all", Wake: "wake"}

// String is the level that names the kind: "peers", "to", "all", "wake".
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return ""
}

func kindOf(level string) Kind {
	switch level {
	case "peers":
		return Presence
	case "to":
		return Direct
	case "all":
		return All
	case "wake":
		return Wake
	}
	return 0
}

// Address is a topic of Beckon taken apart. Dst is set for Direct and Wake, Src
// for Direct, All and Presence (whose it is).
type Address struct {
	Room     string
	Kind     Kind
	Dst, Src string
}

// Parse takes topic apart. It returns [ErrOutside] for a topic that does not
// begin with the root and version, and an [*Error] (400) for one that does and
// is malformed.
func (r Root) Parse(topic string) (Address, error) {
	rest, ok := r.inside(topic)
	if !ok {
		return Address{}, ErrOutside
	}
	room, rest, _ := strings.Cut(rest, "/")
	kind, rest, _ := strings.Cut(rest, "/")
	a := Address{Room: room, Kind: kindOf(kind)}
	if err := CheckName("room", room); err != nil {
		return Address{}, err
	}
	switch a.Kind {
	case Presence, All:
		a.Src = rest
	case Wake:
		a.Dst = rest
	case Direct:
		a.Dst, a.Src, _ = strings.Cut(rest, "/")
	default:
		return Address{Room: room}, Errorf(BadRequest, "topic %s is of no known kind: after the room comes peers, to, all or wake", quote(topic))
	}
	if a.Dst != Server && (a.Kind == Direct || a.Kind == Wake) {
		if err := CheckName("peer", a.Dst); err != nil {
			return Address{Room: room}, err
		}
	}
	if a.Src != Server && a.Kind != Wake {
		if err := CheckName("peer", a.Src); err != nil {
			return Address{Room: room}, err
		}
	}
	return a, nil
}

// Topic writes a as a topic.
func (r Root) Topic(a Address) string {
	head := string(r) + "/" + version + "/" + a.Room + "/" + a.Kind.String() + "/"
	switch a.Kind {
	case Direct:
		return head + a.Dst + "/" + a.Src
	case Wake:
		return head + a.Dst
	default:
		return head + a.Src
	}
}

// inside cuts the root and the version off a topic or filter.
func (r Root) inside(topic string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(topic, string(r))
	if !ok {
		return "", false
	}
	return strings.CutPrefix(rest, "/"+version+"/")
}
