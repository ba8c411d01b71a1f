package topics

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// rights is what the contract lets each role do, with me for oneself and d for
// the peer whom a viewer watches.
var rights = map[string]struct{ publish, subscribe []string }{
	"peer":     {[]string{"to/+/me", "all/me", "peers/me"}, []string{"to/me/+", "all/+", "peers/+"}},
	"viewer":   {[]string{"to/d/me", "to/_/me", "peers/me"}, []string{"to/me/+", "peers/d"}},
	"observer": {nil, []string{"#"}},
	"admin":    {[]string{"to/+/+", "all/+", "peers/+"}, []string{"#"}},
	"":         {nil, nil},
}

var roleOf = map[string]Role{"peer": Peer, "viewer": Viewer, "observer": Observer, "admin": Admin, "": 0}

// allowed reports whether a filter or topic after the room is in the list. A
// filter is taken as if it were a topic: a "+" in the list allows any level,
// also "+", and a "#" only allows a "#".
func allowed(list []string, me, of, topic string) bool {
	return slices.ContainsFunc(list, func(pattern string) bool {
		levels := strings.Split(pattern, "/")
		for i, l := range levels {
			if l == "me" {
				levels[i] = me
			} else if l == "d" {
				levels[i] = of
			}
		}
		wide := slices.Contains(strings.Split(topic, "/"), "#")
		return (pattern == "#" || !wide) && slowMatch(strings.Join(levels, "/"), topic)
	})
}

// readable reports whether role lets me, in its room, read what is said at a.
func readable(role, me, of string, a Address) bool {
	return a.Room == "a" && allowed(rights[role].subscribe, me, of, inRoom(a))
}

func inRoom(a Address) string {
	_, topic, _ := strings.Cut(strings.TrimPrefix(DefaultRoot.Topic(a), "rtc/v1/"), "/")
	return topic
}

func TestEveryRoleMayDoWhatTheContractSaysAndNothingElse(t *testing.T) {
	threat.Row(t, 3, 0)
	for role, can := range rights {
		for _, room := range []string{"a", "a*", "*", "b", "A", "", "a**", "ab*"} {
			id := Identity{Name: "me", Grants: []Grant{{Room: room, Role: roleOf[role], Of: "d"}}}
			in := func(r string) bool { return room == "*" || r == "a" && (room == "a" || room == "a*") || r == room }

			for _, a := range universe {
				want := in(a.Room) && a.Src != Server && allowed(can.publish, "me", "d", inRoom(a))
				if got := id.MayPublish(a); got != want {
					t.Errorf("%s of %q may publish to %s: %v", role, room, DefaultRoot.Topic(a), got)
				}
			}
			for _, text := range filters {
				f := parseFilter(t, "rtc/v1/"+text)
				first, rest, deeper := strings.Cut(text, "/")
				if !deeper {
					rest = "" // of no kind at all: only a role that may read all takes it
				}
				inside := in(first)
				if first == "+" || first == "#" {
					inside = room == "*"
				}
				want := inside && (allowed(can.subscribe, "me", "d", rest) || !deeper && slices.Contains(can.subscribe, "#"))
				if got := id.MaySubscribe(f); got != want {
					t.Errorf("%s of %q may subscribe to %s: %v", role, room, text, got)
				}
				if shared := parseFilter(t, "$share/g/rtc/v1/"+text); id.MaySubscribe(shared) != want {
					t.Errorf("%s of %q: %s is judged otherwise when it is shared", role, room, text)
				}
			}
			if got, want := id.MayJoin("a"), in("a") && (role == "peer" || role == "viewer" || role == "admin"); got != want {
				t.Errorf("%s of %q may join a: %v", role, room, got)
			}
		}
	}
}

func TestWhatMayBeSubscribedShowsNothingBeyondTheGrant(t *testing.T) {
	threat.Row(t, 1, 0)
	for role := range rights {
		id := Identity{Name: "me", Grants: []Grant{{Room: "a", Role: roleOf[role], Of: "d"}}}
		for _, text := range filters {
			f := parseFilter(t, "rtc/v1/"+text)
			if !id.MaySubscribe(f) {
				continue
			}
			for _, a := range universe {
				if f.Match(a) && !readable(role, "me", "d", a) {
					t.Errorf("a %s may subscribe to %s and reads %s", role, text, DefaultRoot.Topic(a))
				}
			}
		}
	}
}

// snoops are the rows of testdata/snooping_filters.txt.
func snoops(t *testing.T) (rows []struct{ granted, filter string }) {
	t.Helper()
	text, err := os.ReadFile("testdata/snooping_filters.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] != "#" {
			rows = append(rows, struct{ granted, filter string }{f[0], f[1]})
		}
	}
	return rows
}

func TestSnoopingFiltersAreRefusedUnlessTheyAreWithinTheGrant(t *testing.T) {
	threat.Row(t, 1, 0)
	refused := 0
	for _, tt := range snoops(t) {
		for who, grants := range map[string][]Grant{
			"p": {{Room: "garage", Role: Peer}},
			"v": {{Room: "garage", Role: Viewer, Of: "cam1"}},
			"o": {{Room: "garage", Role: Observer}},
			"n": nil,
		} {
			f, err := DefaultRoot.ParseFilter(tt.filter)
			got := err == nil && Identity{Name: "eve", Grants: grants}.MaySubscribe(f)
			if got != strings.Contains(tt.granted, who) {
				t.Errorf("%s gets %s: %v", who, tt.filter, got)
			}
		}
		if !strings.Contains(tt.granted, "p") {
			refused++
		}
	}
	if refused < 60 {
		t.Errorf("%d snooping filters are fewer than 60", refused)
	}
}

// A name or a grant that credentials should never have yielded opens nothing.
func TestAnIdentityWhoseNameIsNoNameHasNoInboxAndJoinsNothing(t *testing.T) {
	parsed := map[string]Filter{}
	for _, text := range filters {
		parsed[text] = parseFilter(t, "rtc/v1/"+text)
	}
	for _, name := range oddNames {
		for _, g := range []Grant{{Room: "*", Role: Peer}, {Room: "*", Role: Viewer, Of: "d"}} {
			id := Identity{Name: name, Grants: []Grant{g}}
			for text, f := range parsed {
				if id.MaySubscribe(f) && f.Covers(Direct) {
					t.Errorf("%.40q as a %s may subscribe to %s", name, g.Role, text)
				}
			}
			if id.MayJoin("a") {
				t.Errorf("%.40q as a %s may join", name, g.Role)
			}
		}
		id := Identity{Name: "me", Grants: []Grant{{Room: "*", Role: Peer}, {Room: "*", Role: Admin}}}
		if id.MayJoin(name) {
			t.Errorf("a room %.40q may be joined", name)
		}
		viewer := Identity{Name: "me", Grants: []Grant{{Room: "a", Role: Viewer, Of: name}}}
		for text, f := range parsed {
			if viewer.MaySubscribe(f) && f.Inbox() != "me" {
				t.Errorf("a viewer of %.40q may subscribe to %s", name, text)
			}
		}
	}
}

func TestGrantsAddUp(t *testing.T) {
	id := Identity{Name: "me", Grants: []Grant{{Room: "a", Role: Observer}, {Room: "b", Role: Viewer, Of: "d"}, {Room: "b", Role: Viewer, Of: "x"}}}
	for _, tt := range []struct {
		filter string
		want   bool
	}{
		{"a/#", true}, {"b/#", false}, {"+/#", false}, {"b/peers/d", true}, {"b/peers/x", true}, {"b/peers/me", false}, {"b/peers/+", false}, {"b/to/me/+", true},
	} {
		if got := id.MaySubscribe(parseFilter(t, "rtc/v1/"+tt.filter)); got != tt.want {
			t.Errorf("%s: %v", tt.filter, got)
		}
	}
	if id.MayPublish(Address{"a", All, "", "me"}) || !id.MayPublish(Address{"b", Direct, "x", "me"}) {
		t.Error("the right to publish is mixed up between rooms")
	}
}

func TestAPeerThatJoinsSubscribesToWhatItMayReadAndItsInboxLast(t *testing.T) {
	viewer := func(of string) Grant { return Grant{Room: "a", Role: Viewer, Of: of} }
	for _, tt := range []struct {
		name   string
		grants []Grant
		want   []string
	}{
		{"peer", []Grant{{Room: "a", Role: Peer}}, []string{"peers/+", "all/+", "to/me/+"}},
		{"peer of any room", []Grant{{Room: "*", Role: Peer}}, []string{"peers/+", "all/+", "to/me/+"}},
		{"peer of rooms that begin so", []Grant{{Room: "a*", Role: Peer}}, []string{"peers/+", "all/+", "to/me/+"}},
		{"admin", []Grant{{Room: "a", Role: Admin}}, []string{"peers/+", "all/+", "to/me/+"}},
		{"viewer", []Grant{viewer("d")}, []string{"peers/d", "to/me/+"}},
		{"viewer of two", []Grant{viewer("d"), viewer("x")}, []string{"peers/d", "peers/x", "to/me/+"}},
		{"viewer of the same twice", []Grant{viewer("d"), {Room: "*", Role: Viewer, Of: "d"}}, []string{"peers/d", "to/me/+"}},
		{"viewer of nobody", []Grant{viewer("")}, []string{"to/me/+"}},
		{"viewer and peer", []Grant{viewer("d"), {Room: "a", Role: Peer}}, []string{"peers/+", "all/+", "to/me/+"}},
		{"viewer, peer of another room", []Grant{viewer("d"), {Room: "b", Role: Peer}}, []string{"peers/d", "to/me/+"}},
	} {
		for _, root := range []Root{"rtc", "acme/rtc"} {
			id := Identity{Name: "me", Grants: tt.grants}
			var want []string
			for _, f := range tt.want {
				want = append(want, string(root)+"/v1/a/"+f)
			}
			got := id.Filters(root, "a")
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, not %q", tt.name, got, want)
			}
			for _, text := range got {
				if f, err := root.ParseFilter(text); err != nil || !id.MaySubscribe(f) {
					t.Errorf("%s: may not subscribe to its own %s (%v)", tt.name, text, err)
				}
			}
		}
	}
}

func TestRolesAreSpelledAsInTheContract(t *testing.T) {
	for name, role := range roleOf {
		if name == "" {
			name = "Role(0)"
		}
		if role.String() != name {
			t.Errorf("%d is %q, not %q", uint8(role), role, name)
		}
	}
	if got := fmt.Sprint(Role(9)); got != "Role(9)" {
		t.Error(got)
	}
}

func BenchmarkMayPublish(b *testing.B) {
	id := Identity{Name: "alice", Grants: []Grant{{Room: "attic", Role: Observer}, {Room: "gar*", Role: Peer}}}
	a := Address{"garage", Direct, "cam1", "alice"}
	b.ReportAllocs()
	for b.Loop() {
		if !id.MayPublish(a) {
			b.Fatal("refused")
		}
	}
}

func TestGuestTalksWithOnePeerOnlyAndOnlyIfItsHostMay(t *testing.T) {
	for _, c := range []struct {
		role, room, of string
		may            bool
	}{
		{"peer", "a", "", true}, {"admin", "*", "", true}, {"viewer", "a*", "d", true},
		{"viewer", "a", "e", false}, {"observer", "a", "", false}, {"", "a", "", false}, {"peer", "b", "", false},
	} {
		host := Identity{
			Name: "me", Grants: []Grant{{Room: c.room, Role: roleOf[c.role], Of: c.of}}, Device: true,
			Publish: []string{"x"}, Subscribe: []string{"x"}, Expires: time.Unix(9, 0), Source: "token", Stamp: "k1",
		}
		guest, err := host.Guest("http-1", "a", "d")
		if !c.may {
			if AsError(err).Code != Forbidden {
				t.Errorf("the guest of %s of %q in %s: %v", c.role, c.of, c.room, err)
			}
			continue
		}
		want := Identity{Name: "http-1", Account: "me", Grants: []Grant{{"a", Viewer, "d"}}, Expires: host.Expires, Source: "token", Stamp: "k1"}
		if err != nil || !reflect.DeepEqual(guest, want) {
			t.Errorf("the guest of %s is %+v, %v", c.role, guest, err)
		}
		again, err := guest.Guest("http-2", "a", "d")
		if err != nil || again.Account != "me" {
			t.Errorf("its own guest is of %q, %v", again.Account, err)
		}
		if _, err := guest.Guest("http-2", "a", "e"); err == nil {
			t.Error("a guest's guest may do more")
		}
	}
	if _, err := (Identity{Name: "me", Grants: []Grant{{"*", Admin, ""}}}).Guest("http-1", "a", Server); err == nil {
		t.Error("a guest of the server itself")
	}
}
