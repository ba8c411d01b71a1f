package topics

import "strings"

// Filter is a topic filter inside the root, taken apart.
type Filter struct {
	Share  string   // group of a shared subscription, "" for an ordinary one (MQTT 5, 4.8.2)
	levels []string // room, kind and peers, as far as they are given; "+" for any
	rest   bool     // ended with "#"
}

// ParseFilter takes a filter apart, $share/{group}/ included. It returns
// [ErrOutside] for a filter that does not begin with the root and version
// literally, "#" and "+/v1/..." among them, and an [*Error] (400) for one that
// does and is malformed.
func (r Root) ParseFilter(filter string) (Filter, error) {
	var f Filter
	inner := filter
	if group, ok := cutShare(filter); ok {
		f.Share, inner, ok = strings.Cut(group, "/")
		if !ok || f.Share == "" || strings.ContainsAny(f.Share, "+#") {
			return Filter{}, Errorf(BadRequest, "filter %s: a shared subscription is $share/{group}/{filter}", quote(filter))
		}
	}
	rest, ok := r.inside(inner)
	if !ok {
		return Filter{}, ErrOutside
	}
	if rest == "#" {
		f.rest = true
		return f, nil
	}
	rest, f.rest = strings.CutSuffix(rest, "/#")
	f.levels = strings.Split(rest, "/")
	if len(f.levels) > 4 {
		return Filter{}, Errorf(BadRequest, "filter %s goes deeper than any topic of a room", quote(filter))
	}
	for i, level := range f.levels {
		switch {
		case level == "+", i > 1 && level == Server:
		case i == 1 && kindOf(level) == 0:
			return Filter{}, Errorf(BadRequest, "filter %s: after the room comes peers, to, all, wake or a wildcard", quote(filter))
		case !ValidName(level):
			return Filter{}, Errorf(BadRequest, "filter %s: level %s is neither a name nor a wildcard", quote(filter), quote(level))
		}
	}
	return f, nil
}

// Inbox returns the filter of everything that is said to me in room.
func (r Root) Inbox(room, me string) string {
	return r.Topic(Address{Room: room, Kind: Direct, Dst: me, Src: "+"})
}

// Room returns the room the filter stays in, or "" when it spans rooms.
func (f Filter) Room() string {
	if len(f.levels) == 0 || f.levels[0] == "+" {
		return ""
	}
	return f.levels[0]
}

// Inbox returns the peer whose inbox, or a part of it, the filter names, or "".
func (f Filter) Inbox() string {
	if f.Room() != "" && len(f.levels) == 4 && !f.rest && f.levels[1] == kinds[Direct] && f.levels[2] != "+" {
		return f.levels[2]
	}
	return ""
}

// Match reports whether the filter covers a.
func (f Filter) Match(a Address) bool {
	var topic [4]string
	topic[0], topic[1] = a.Room, a.Kind.String()
	n := 3
	switch a.Kind {
	case Direct:
		topic[2], topic[3], n = a.Dst, a.Src, 4
	case Wake:
		topic[2] = a.Dst
	default:
		topic[2] = a.Src
	}
	if len(f.levels) > n || len(f.levels) < n && !f.rest {
		return false
	}
	for i, level := range f.levels {
		if level != "+" && level != topic[i] {
			return false
		}
	}
	return true
}

// within reports whether the levels after the room are pattern, where "*" in
// the pattern stands for any single level, a wildcard included.
func (f Filter) within(pattern ...string) bool {
	if f.rest || len(f.levels) != len(pattern)+1 {
		return false
	}
	for i, p := range pattern {
		if p != "*" && p != f.levels[i+1] {
			return false
		}
	}
	return true
}

// cutShare cuts "$share/" off, in any letter case: MQTT knows it in lower case
// only, but mochi-mqtt, behind the guard, takes the first level by EqualFold,
// which folds more than ASCII.
func cutShare(filter string) (string, bool) {
	first, rest, ok := strings.Cut(filter, "/")
	if !ok || !strings.EqualFold(first, "$share") {
		return filter, false
	}
	return rest, true
}

// Covers reports whether the filter can match topics of that kind at all.
func (f Filter) Covers(k Kind) bool {
	switch {
	case len(f.levels) < 2:
		return f.rest
	case f.levels[1] != "+" && f.levels[1] != k.String():
		return false
	case k == Direct:
		return f.rest && len(f.levels) <= 4 || len(f.levels) == 4
	default:
		return f.rest && len(f.levels) <= 3 || len(f.levels) == 3
	}
}
