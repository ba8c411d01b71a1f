package guard

import "bytes"

// topic checks the name of a topic: of a message, a will or a response.
func (k *checker) topic(c *cursor, what string, t []byte) {
	switch {
	case c.bad != nil:
	case len(t) == 0: // [MQTT-4.7.3-1]
		c.fail(badTopic, "%s is empty", what)
	case bytes.ContainsAny(t, "+#"): // [MQTT-3.3.2-2] [MQTT-3.1.3-11] [MQTT-3.3.2-14]
		c.fail(badTopic, "%s %s holds a wildcard", what, excerpt(t))
	default:
		k.size(c, badTopic, what, t)
	}
}

// filter checks a topic filter of SUBSCRIBE or UNSUBSCRIBE and reports whether
// it is a shared one.
func (k *checker) filter(c *cursor, f []byte) (shared bool) {
	if c.bad != nil {
		return false
	}
	k.size(c, badFilter, "filter", f)
	first, rest, _ := bytes.Cut(f, []byte("/"))
	// The engine takes $share in any letter case, and in 3.1.1 too, so its
	// grammar is asked for there as well.
	if shared = bytes.EqualFold(first, []byte("$share")); shared {
		var group []byte
		var more bool
		group, f, more = bytes.Cut(rest, []byte("/"))
		// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
		if !more || len(group) == 0 || bytes.ContainsAny(group, "+#") {
			c.fail(badFilter, "shared filter is not $share/{group}/{filter}: group %s", excerpt(group))
			return true
		}
	}
	if len(f) == 0 { // [MQTT-4.7.3-1]
		c.fail(badFilter, "filter is empty")
		return shared
	}
	for level, more := f, true; more; {
		level, f, more = bytes.Cut(f, []byte("/"))
		switch {
		case len(level) > 1 && bytes.IndexByte(level, '+') >= 0: // [MQTT-4.7.1-2]
			c.fail(badFilter, "filter: + is not a level of its own in %s", excerpt(level))
		case len(level) > 1 && bytes.IndexByte(level, '#') >= 0: // [MQTT-4.7.1-1]
			c.fail(badFilter, "filter: # is not a level of its own in %s", excerpt(level))
		case len(level) == 1 && level[0] == '#' && more: // [MQTT-4.7.1-1]
			c.fail(badFilter, "filter: # is not the last level")
		}
	}
	return shared
}

// size holds topics and filters to the limits.
func (k *checker) size(c *cursor, reason byte, what string, t []byte) {
	if len(t) > k.limits.TopicBytes {
		c.fail(reason, "%s of %d bytes, at most %d", what, len(t), k.limits.TopicBytes)
	} else if n := bytes.Count(t, []byte("/")) + 1; n > k.limits.Levels {
		c.fail(reason, "%s of %d levels, at most %d", what, n, k.limits.Levels)
	}
}
