package topics

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// universe is every address of two rooms with three peers and the server.
var universe = func() (all []Address) {
	peers := []string{"me", "d", "x", Server}
	for _, room := range []string{"a", "b"} {
		for _, p := range peers {
			all = append(all, Address{room, Presence, "", p}, Address{room, All, "", p}, Address{room, Wake, p, ""})
			for _, q := range peers {
				all = append(all, Address{room, Direct, p, q})
			}
		}
	}
	return all
}()

// filters is every well-formed filter over the levels of universe, without the
// root and version.
var filters = func() (all []string) {
	levels := [][]string{{"a", "b", "+"}, {"peers", "to", "all", "wake", "+"}, {"me", "d", Server, "+"}, {"me", "d", Server, "+"}}
	all = []string{"#"}
	heads := []string{""}
	for _, level := range levels {
		var next []string
		for _, head := range heads {
			for _, l := range level {
				next = append(next, head+l+"/")
				all = append(all, head+l, head+l+"/#")
			}
		}
		heads = next
	}
	return all
}()

// slowMatch is MQTT's matching (MQTT 5, 4.7), written apart from the package.
func slowMatch(filter, topic string) bool {
	fs, ts := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, f := range fs {
		if f == "#" {
			return true // of the parent, too
		}
		if i >= len(ts) || f != "+" && f != ts[i] {
			return false
		}
	}
	return len(fs) == len(ts)
}

// withoutShare is the filter inside $share/{group}/.
func withoutShare(filter string) string {
	if parts := strings.SplitN(filter, "/", 3); len(parts) == 3 && strings.EqualFold(parts[0], "$share") {
		return parts[2]
	}
	return filter
}

func parseFilter(t testing.TB, filter string) Filter {
	t.Helper()
	f, err := DefaultRoot.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFiltersMatchWhatMQTTSaysTheyMatch(t *testing.T) {
	for _, text := range filters {
		f := parseFilter(t, "rtc/v1/"+text)
		rooms, covers := map[string]bool{}, map[Kind]bool{}
		for _, a := range universe {
			topic := DefaultRoot.Topic(a)
			got := f.Match(a)
			if want := slowMatch("rtc/v1/"+text, topic); got != want {
				t.Errorf("%s matches %s: %v", text, topic, got)
			}
			if got {
				rooms[a.Room], covers[a.Kind] = true, true
			}
		}
		for _, k := range []Kind{Presence, Direct, All, Wake} {
			if f.Covers(k) != covers[k] {
				t.Errorf("%s covers %s: %v", text, k, f.Covers(k))
			}
		}
		if room := f.Room(); room == "" && len(rooms) == 1 || room != "" && (len(rooms) > 1 || len(rooms) == 1 && !rooms[room]) {
			t.Errorf("%s is of room %q, but matches in %v", text, room, rooms)
		}
	}
}

func TestAFilterKnowsItsRoomAndInbox(t *testing.T) {
	for _, tt := range []struct{ filter, room, inbox string }{
		{"garage/to/me/+", "garage", "me"},
		{"garage/to/me/cam1", "garage", "me"},
		{"garage/to/me/_", "garage", "me"},
		{"garage/to/_/+", "garage", "_"},
		{"garage/to/me/#", "garage", ""},
		{"garage/to/me/+/#", "garage", ""},
		{"garage/to/me", "garage", ""},
		{"garage/to/+/+", "garage", ""},
		{"garage/to/+/me", "garage", ""},
		{"garage/+/me/+", "garage", ""},
		{"garage/peers/me/+", "garage", ""},
		{"garage/peers/+", "garage", ""},
		{"garage/#", "garage", ""},
		{"garage", "garage", ""},
		{"+/to/me/+", "", ""},
		{"+/#", "", ""},
		{"#", "", ""},
	} {
		for _, share := range []string{"", "$share/g/", "$SHARE/g/", "$Share/G.1/"} {
			f := parseFilter(t, share+"rtc/v1/"+tt.filter)
			if f.Room() != tt.room || f.Inbox() != tt.inbox || (f.Share != "") != (share != "") {
				t.Errorf("%s%s: room %q, inbox %q, share %q", share, tt.filter, f.Room(), f.Inbox(), f.Share)
			}
		}
	}
	if got := parseFilter(t, DefaultRoot.Inbox("garage", "me")).Inbox(); got != "me" {
		t.Errorf("the inbox of me is %q", got)
	}
}

func TestMalformedFiltersAreRefused(t *testing.T) {
	for _, filter := range []string{
		"rtc/v1/", "rtc/v1//", "rtc/v1//#", "rtc/v1/garage/", "rtc/v1/garage//", "rtc/v1/garage//#", "rtc/v1/garage/to/", "rtc/v1/garage/to/me/", "rtc/v1/garage/to//+",
		"rtc/v1/garage#", "rtc/v1/#/garage", "rtc/v1/garage/#/me", "rtc/v1/garage/to/me#", "rtc/v1/garage/to/#/+", "rtc/v1/##", "rtc/v1/garage/##", "rtc/v1/#/#",
		"rtc/v1/garage+", "rtc/v1/+garage/to/me/+", "rtc/v1/garage/to/me/++", "rtc/v1/garage/to/m+/x", "rtc/v1/++/#",
		"rtc/v1/garage/nothing/me", "rtc/v1/garage/TO/me/+", "rtc/v1/garage/_/me", "rtc/v1/_/to/me/+", "rtc/v1/_/#", "rtc/v1/garage/_",
		"rtc/v1/garage/to/a/b/c", "rtc/v1/garage/to/a/b/+", "rtc/v1/+/+/+/+/+", "rtc/v1/garage/to/a/b/c/#", "rtc/v1/" + strings.Repeat("+/", 10_000) + "#",
		"rtc/v1/*/to/me/+", "rtc/v1/>/x", "rtc/v1/$SYS/#", "rtc/v1/garage/to/me/a b", "rtc/v1/garage/to/me/\x00", "rtc/v1/garage/to/me/é",
		"$share/", "$share//rtc/v1/garage/all/+", "$share/g", "$share/+/rtc/v1/garage/all/+", "$share/#/rtc/v1/garage/all/+", "$share/g+/rtc/v1/garage/all/+", "$SHARE/g", "$share/g/rtc/v1/", "$share/g/rtc/v1/garage/nothing",
	} {
		f, err := DefaultRoot.ParseFilter(filter)
		if err == nil || errors.Is(err, ErrOutside) {
			t.Errorf("ParseFilter(%.80q) = %+v, %v", filter, f, err)
			continue
		}
		if AsError(err).Code != BadRequest {
			t.Errorf("%.80q: %v", filter, err)
		}
		checkText(t, err)
	}
}

// mochi-mqtt takes the first level of a filter for $share by strings.EqualFold,
// which folds the long s (U+017F) to s as well. What it would read as shared, we
// must read as shared.
func TestSharedFiltersAreCheckedAsTheFilterInsideInAnyLetterCase(t *testing.T) {
	threat.Row(t, 1, 0)
	for _, share := range []string{"$share", "$SHARE", "$Share", "$sHaRe", "$ſhare", "$ſHARE"} {
		f, err := DefaultRoot.ParseFilter(share + "/g/rtc/v1/garage/to/cam1/+")
		if err != nil || f.Share != "g" || f.Inbox() != "cam1" {
			t.Errorf("%s: %+v, %v", share, f, err)
		}
	}
	for _, filter := range []string{"$share", "$shared/g/rtc/v1/garage/#", "share/g/rtc/v1/garage/#", "$share/g/#", "$share/g/rtc/#", "$share/g/+/v1/#", "$share/g/$share/h/rtc/v1/garage/#", "$share/g//rtc/v1/garage/#", "$queue/rtc/v1/garage/#", "/$share/g/rtc/v1/garage/#"} {
		if f, err := DefaultRoot.ParseFilter(filter); !errors.Is(err, ErrOutside) {
			t.Errorf("ParseFilter(%q) = %+v, %v", filter, f, err)
		}
	}
}

func TestTheUniverseOfTheTestsIsWhole(t *testing.T) {
	for _, a := range universe {
		if back, err := DefaultRoot.Parse(DefaultRoot.Topic(a)); err != nil || back != a {
			t.Errorf("%+v comes back as %+v, %v", a, back, err)
		}
	}
	if want := 2 * (4*3 + 4*4); len(universe) != want || len(slices.Compact(slices.Sorted(slices.Values(filters)))) != len(filters) {
		t.Errorf("%d addresses, not %d; %d filters", len(universe), want, len(filters))
	}
}

func BenchmarkMatch(b *testing.B) {
	f := parseFilter(b, "rtc/v1/garage/to/alice/+")
	a := Address{"garage", Direct, "alice", "cam1"}
	b.ReportAllocs()
	for b.Loop() {
		if !f.Match(a) {
			b.Fatal("no match")
		}
	}
}
