package topics

import "strings"

// Topics outside the root are ordinary MQTT, denied unless a grant opens them.

// MayPublishOutside reports whether id may publish at topic, which is outside
// the root. Topics that begin with "$" belong to brokers, and are granted to
// nobody.
func (id Identity) MayPublishOutside(topic string) bool {
	return !strings.HasPrefix(topic, "$") && anyCovers(id.Publish, topic)
}

// MaySubscribeOutside reports whether id may read everything that filter covers
// outside the root. The filter is one without $share/{group}/.
func (id Identity) MaySubscribeOutside(filter string) bool {
	return !strings.HasPrefix(filter, "$") && anyCovers(id.Subscribe, filter)
}

func anyCovers(patterns []string, filter string) bool {
	for _, p := range patterns {
		if Covers(p, filter) {
			return true
		}
	}
	return false
}

// Covers reports whether every topic that filter matches is matched by pattern,
// which is a filter, too; a topic is a filter that matches itself (MQTT 5, 4.7).
func Covers(pattern, filter string) bool {
	if strings.HasPrefix(filter, "$") && !strings.HasPrefix(pattern, "$") {
		return false // [MQTT-4.7.2-1]
	}
	for {
		p, morePattern, pMore := strings.Cut(pattern, "/")
		f, moreFilter, fMore := strings.Cut(filter, "/")
		switch {
		case p == "#":
			return true
		case f == "#", p != "+" && p != f:
			return false
		case !fMore:
			return !pMore || morePattern == "#" // "a/#" matches "a", 4.7.1.2
		case !pMore:
			return false
		}
		pattern, filter = morePattern, moreFilter
	}
}

// CutShare cuts "$share/{group}/" off a filter (MQTT 5, 4.8.2).
func CutShare(filter string) (group, inner string) {
	rest, ok := cutShare(filter)
	if !ok {
		return "", filter
	}
	group, inner, _ = strings.Cut(rest, "/")
	return group, inner
}
