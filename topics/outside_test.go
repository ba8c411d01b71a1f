package topics

import (
	"strings"
	"testing"
)

func TestPatternCoversWhatMQTTSaysItMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, filter string
		want            bool
	}{
		{"home/light", "home/light", true},
		{"home/light", "home/Light", false},
		{"home/light", "home", false},
		{"home", "home/light", false},
		{"home/+", "home/light", true},
		{"home/+", "home/+", true},
		{"home/+", "home", false},
		{"home/+", "home/a/b", false},
		{"home/+", "home/#", false},
		{"home/#", "home", true},
		{"home/#", "home/a/b", true},
		{"home/#", "home/+/b", true},
		{"home/#", "home/#", true},
		{"home/#", "+/a", false},
		{"home/#", "#", false},
		{"#", "home/a", true},
		{"#", "#", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"+/+", "a/b", true},
		{"+", "a/b", false},
		{"+/a", "/a", true},
		{"/+", "/a", true},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
	} {
		if got := Covers(tt.pattern, tt.filter); got != tt.want {
			t.Errorf("%s covers %s: %v", tt.pattern, tt.filter, got)
		}
	}
}

func TestTopicsOutsideAreDeniedUnlessGrantedAndDollarAlways(t *testing.T) {
	id := Identity{Name: "cam1", Publish: []string{"home/cam1/#", "#"}, Subscribe: []string{"home/+/set", "$SYS/#"}}
	if !id.MayPublishOutside("home/cam1/motion") || id.MayPublishOutside("$SYS/x") || (Identity{}).MayPublishOutside("home/cam1/motion") {
		t.Error("publish")
	}
	if !id.MaySubscribeOutside("home/cam1/set") || !id.MaySubscribeOutside("home/+/set") || id.MaySubscribeOutside("home/#") || id.MaySubscribeOutside("$SYS/#") {
		t.Error("subscribe")
	}
}

func FuzzCovers(f *testing.F) {
	f.Add("home/+", "home/a", "home/a")
	f.Add("#", "a/#", "a")
	f.Fuzz(func(t *testing.T, pattern, filter, topic string) {
		if strings.ContainsAny(topic, "+#") || strings.HasPrefix(filter, "$") {
			return
		}
		// What a filter matches, a pattern that covers the filter matches.
		if Covers(pattern, filter) && Covers(filter, topic) && !Covers(pattern, topic) && wellFormed(pattern) && wellFormed(filter) {
			t.Errorf("%q covers %q, which matches %q, but it does not", pattern, filter, topic)
		}
	})
}

func wellFormed(filter string) bool {
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && (len(l) > 1 || l == "#" && i < len(levels)-1) {
			return false
		}
	}
	return true
}
