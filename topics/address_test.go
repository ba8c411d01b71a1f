package topics

import (
	"errors"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestTopicsAreTakenApartAndPutTogether(t *testing.T) {
	long := strings.Repeat("x", MaxName)
	for _, tt := range []struct {
		topic string // after the root and version
		want  Address
	}{
		{"garage/peers/cam1", Address{"garage", Presence, "", "cam1"}},
		{"garage/peers/_", Address{"garage", Presence, "", "_"}},
		{"garage/to/cam1/alice", Address{"garage", Direct, "cam1", "alice"}},
		{"garage/to/cam1/cam1", Address{"garage", Direct, "cam1", "cam1"}},
		{"garage/to/_/alice", Address{"garage", Direct, "_", "alice"}},
		{"garage/to/alice/_", Address{"garage", Direct, "alice", "_"}},
		{"garage/all/alice", Address{"garage", All, "", "alice"}},
		{"garage/all/_", Address{"garage", All, "", "_"}},
		{"garage/wake/cam1", Address{"garage", Wake, "cam1", ""}},
		{"to/to/to/to", Address{"to", Direct, "to", "to"}},
		{"v1/peers/peers", Address{"v1", Presence, "", "peers"}},
		{"Garage/all/Alice", Address{"Garage", All, "", "Alice"}},
		{long + "/to/" + long + "/" + long, Address{long, Direct, long, long}},
	} {
		for _, root := range []Root{"rtc", "acme/rtc", "v1", "rtc/v1", "to/peers"} {
			topic := string(root) + "/v1/" + tt.topic
			a, err := root.Parse(topic)
			if err != nil || a != tt.want {
				t.Errorf("%s: Parse(%q) = %+v, %v", root, topic, a, err)
			}
			if back := root.Topic(tt.want); back != topic {
				t.Errorf("%s: Topic(%+v) = %q", root, tt.want, back)
			}
		}
	}
}

func TestMalformedTopicsAreRefused(t *testing.T) {
	threat.Row(t, 21, 0)
	long := strings.Repeat("x", MaxName+1)
	for _, topic := range []string{
		"", "/", "//", "garage", "garage/", "/garage", "garage//",
		"garage/peers", "garage/peers/", "garage/peers//", "garage/peers/a/", "garage/peers/a/b", "garage/peers//a", "/peers/a", "//peers/a",
		"garage/to", "garage/to/", "garage/to/a", "garage/to/a/", "garage/to//a", "garage/to/a/b/", "garage/to/a/b/c", "garage/to/a//b", "garage/to//", "garage/to/_/", "garage/to/_",
		"garage/all", "garage/all/", "garage/all/a/b", "garage/all/a/",
		"garage/wake", "garage/wake/", "garage/wake/a/b", "garage/wake/a/",
		"garage/Peers/a", "garage/TO/a/b", "garage/peer/a", "garage/tо/a/b" /* Cyrillic o */, "garage/_/a", "garage/nothing/a", "garage/ to/a/b",
		"_/peers/a", "garage/peers/__", "garage/to/__/a", "garage/all/_a",
		"+/peers/a", "garage/+/a", "garage/peers/+", "garage/peers/#", "garage/to/+/a", "garage/to/a/+", "garage/#", "#", "+", "*/peers/a", "garage/peers/>",
		"garage/peers/a\x00", "garage\x00/peers/a", "garage/peers/a ", " garage/peers/a", "garage/peers/a\n",
		long + "/peers/a", "garage/peers/" + long, "garage/to/" + long + "/a", "garage/to/a/" + long, "garage/wake/" + long,
		strings.Repeat("a/", 10_000),
	} {
		a, err := DefaultRoot.Parse("rtc/v1/" + topic)
		if err == nil || a != (Address{Room: a.Room}) || a.Room != "" && !ValidName(a.Room) {
			t.Errorf("Parse(rtc/v1/%.80q) = %+v, %v", topic, a, err)
			continue
		}
		if AsError(err).Code != BadRequest {
			t.Errorf("%.80q: %v", topic, err)
		}
		checkText(t, err)
	}
}

func TestTopicsOutsideTheRootAreNoAddresses(t *testing.T) {
	for _, tt := range []struct{ root, topic string }{
		{"rtc", ""}, {"rtc", "/"}, {"rtc", "rtc"}, {"rtc", "rtc/"}, {"rtc", "rtc/v1"}, {"rtc", "/rtc/v1/garage/peers/a"}, {"rtc", "rtc//v1/garage/peers/a"},
		{"rtc", "rtc/v2/garage/peers/a"}, {"rtc", "rtc/V1/garage/peers/a"}, {"rtc", "rtc/v10/garage/peers/a"}, {"rtc", "RTC/v1/garage/peers/a"},
		{"rtc", "rtcv1/garage/peers/a"}, {"rtc", "rtcx/v1/garage/peers/a"}, {"rtc", "acme/rtc/v1/garage/peers/a"}, {"rtc", "$SYS/broker"}, {"rtc", "v1/garage/peers/a"},
		{"rtc", "#"}, {"rtc", "+/v1/garage/peers/a"}, {"rtc", "rtc/+/garage/peers/a"}, {"rtc", "rtc/#"}, {"rtc", "rtc/v1#"},
		{"acme/rtc", "rtc/v1/garage/peers/a"}, {"acme/rtc", "acme/v1/garage/peers/a"}, {"acme/rtc", "acme/rtc/garage/peers/a"}, {"acme/rtc", "acme/+/v1/garage/peers/a"},
	} {
		if a, err := Root(tt.root).Parse(tt.topic); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: Parse(%q) = %+v, %v", tt.root, tt.topic, a, err)
		}
		if f, err := Root(tt.root).ParseFilter(tt.topic); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: ParseFilter(%q) = %+v, %v", tt.root, tt.topic, f, err)
		}
	}
}

func TestARootIsOneOrTwoNames(t *testing.T) {
	for _, tt := range []struct {
		root string
		ok   bool
	}{
		{"rtc", true}, {"acme/rtc", true}, {"A.b_c-d/0", true}, {"v1", true},
		{strings.Repeat("a", 55), true}, {strings.Repeat("a", 50) + "/rtc1", true}, {strings.Repeat("a", 51) + "/rtc1", false}, {strings.Repeat("a", 56), false}, {strings.Repeat("a", 65), false},
		{"", false}, {"/", false}, {"/rtc", false}, {"rtc/", false}, {"a//b", false}, {"a/b/c", false}, {"$SYS", false}, {"$share/x", false}, {"_", false},
		{"+", false}, {"#", false}, {"acme/+", false}, {"acme/#", false}, {"r tc", false}, {"rtc\x00", false}, {"ｒｔｃ", false},
	} {
		err := Root(tt.root).Check()
		if (err == nil) != tt.ok {
			t.Errorf("Check(%q) = %v", tt.root, err)
		}
		if err != nil {
			checkText(t, err)
		}
	}
}

func TestTheLongestTopicOfTheLongestRootFitsTheLimitOfTheGuard(t *testing.T) {
	name := strings.Repeat("n", MaxName)
	root := Root(strings.Repeat("a", 55))
	if n := len(root.Topic(Address{name, Direct, name, name})); n != 256 {
		t.Errorf("the longest topic has %d bytes, not 256 (row 21 of package threat)", n)
	}
}

func TestKindsAreNamedAsInTheTopic(t *testing.T) {
	for kind, want := range map[Kind]string{Presence: "peers", Direct: "to", All: "all", Wake: "wake", 0: "", 5: "", 255: ""} {
		if got := kind.String(); got != want {
			t.Errorf("Kind(%d) is %q, not %q", uint8(kind), got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	id := Identity{Name: "me", Grants: []Grant{{Room: "a", Role: Peer}}}
	f.Fuzz(func(t *testing.T, root, text string) {
		r := Root(root)
		if r.Check() != nil {
			r = DefaultRoot
		}
		if a, err := r.Parse(text); err == nil {
			if back := r.Topic(a); back != text {
				t.Fatalf("%q comes back as %q (%+v)", text, back, a)
			}
			if !ValidName(a.Room) || len(text) > 256 || strings.ContainsAny(text, "+#\x00") {
				t.Fatalf("%q is taken: %+v", text, a)
			}
		} else if !errors.Is(err, ErrOutside) {
			checkText(t, err)
		}
		filter, err := r.ParseFilter(text)
		if err != nil {
			if !errors.Is(err, ErrOutside) {
				checkText(t, err)
			}
			return
		}
		inner := withoutShare(text)
		may := id.MaySubscribe(filter)
		for _, a := range universe {
			got := filter.Match(a)
			if want := slowMatch(inner, r.Topic(a)); got != want {
				t.Fatalf("%q matches %+v: %v", text, a, got)
			}
			if got && !filter.Covers(a.Kind) {
				t.Fatalf("%q matches %+v, but does not cover its kind", text, a)
			}
			if got && may && !readable("peer", "me", "", a) {
				t.Fatalf("a peer may subscribe to %q, which shows it %+v", text, a)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DefaultRoot.Parse("rtc/v1/garage/to/cam1/alice"); err != nil {
			b.Fatal(err)
		}
	}
}
