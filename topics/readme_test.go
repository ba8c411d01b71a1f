package topics

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The README says what this package does; these tests hold its tables and
// examples against the code.

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// table returns the rows of the table that follows the line that begins with
// head, cells trimmed.
func table(t *testing.T, head string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(readme(t), "\n"+head)
	if !ok {
		t.Fatalf("the README has no table that begins with %q", head)
	}
	var rows [][]string
	for i, line := range strings.Split(rest, "\n")[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		rows = append(rows, cells)
		if i > 100 {
			break
		}
	}
	return rows
}

var quoted = regexp.MustCompile("`([^`]*)`")

// codes returns what stands between backticks.
func codesIn(cell string) []string {
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestReadmeTopicsAreThoseOfThePackage(t *testing.T) {
	fill := strings.NewReplacer("{room}", "garage", "{peer}", "cam1", "{dst}", "cam1", "{src}", "alice")
	seen := make(map[Kind]bool)
	for _, row := range table(t, "| topic | who publishes") {
		topic := fill.Replace(codesIn(row[0])[0])
		a, err := DefaultRoot.Parse(topic)
		if err != nil {
			t.Errorf("%s: %v", topic, err)
		}
		if DefaultRoot.Topic(a) != topic {
			t.Errorf("%s is written as %s", topic, DefaultRoot.Topic(a))
		}
		if retained := row[3] == "yes"; retained != (a.Kind == Presence) {
			t.Errorf("%s: retained is %s", topic, row[3])
		}
		seen[a.Kind] = true
	}
	if len(seen) != len(kinds)-1 {
		t.Errorf("the README names %d kinds of topic, there are %d", len(seen), len(kinds)-1)
	}
}

func TestReadmeErrorsAreThoseOfThePackage(t *testing.T) {
	rows := table(t, "| code | reason | MQTT 5")
	if len(rows) != len(Codes()) {
		t.Errorf("the README has %d errors, there are %d", len(rows), len(Codes()))
	}
	for i, c := range Codes() {
		want := []string{fmt.Sprint(int(c)), "`" + c.Reason() + "`", fmt.Sprintf("%#02x", c.MQTT()), fmt.Sprint(c.Close())}
		if i < len(rows) && fmt.Sprint(rows[i][:4]) != fmt.Sprint(want) {
			t.Errorf("the README says %v, the code %v", rows[i][:4], want)
		}
	}
}

func TestReadmeRolesAreThoseOfThePackage(t *testing.T) {
	fill := strings.NewReplacer("{me}", "me", "{d}", "dora")
	grants := map[string]Grant{
		"peer":     {Room: "garage", Role: Peer},
		"viewer":   {Room: "garage", Role: Viewer, Of: "dora"},
		"observer": {Room: "garage", Role: Observer},
		"admin":    {Room: "garage", Role: Admin},
	}
	for _, row := range table(t, "| role | publish | subscribe") {
		role := codesIn(row[0])[0]
		id := Identity{Name: "me", Grants: []Grant{grants[role]}}
		delete(grants, role)
		if role == "admin" {
			continue // in words
		}
		publish := make(map[string]bool)
		for _, p := range codesIn(row[1]) {
			p = fill.Replace(p)
			publish[p] = true
			publish[strings.Replace(p, "+", "dora", 1)] = true
			publish[strings.Replace(p, "+", "eve", 1)] = true
			publish[strings.Replace(p, "+", "me", 1)] = true
			publish[strings.Replace(p, "+", "_", 1)] = true
		}
		for _, at := range []string{
			"to/dora/me", "to/eve/me", "to/me/me", "to/_/me", "to/dora/eve", "to/me/dora", "to/dora/_",
			"all/me", "all/eve", "peers/me", "peers/dora", "wake/me", "wake/dora",
		} {
			a, err := DefaultRoot.Parse("rtc/v1/garage/" + at)
			if err != nil {
				t.Fatal(err)
			}
			if got := id.MayPublish(a); got != publish[at] {
				t.Errorf("%s may publish %s: the code says %v, the README %v", role, at, got, publish[at])
			}
		}
		subscribe := make(map[string]bool)
		for _, f := range codesIn(row[2]) {
			f = fill.Replace(f)
			subscribe[f] = true
			for _, one := range []string{"me", "dora", "eve"} {
				if strings.HasSuffix(f, "+") {
					subscribe[strings.TrimSuffix(f, "+")+one] = true
				}
			}
		}
		if role == "observer" {
			continue // in words
		}
		for _, at := range []string{
			"to/me/+", "to/me/eve", "to/dora/+", "to/+/+", "to/+/me", "all/+", "all/eve", "peers/+", "peers/dora", "peers/eve", "wake/+", "wake/me", "#", "+/+", "to/#", "to/me/#",
		} {
			f, err := DefaultRoot.ParseFilter("rtc/v1/garage/" + at)
			if err != nil {
				t.Fatal(err)
			}
			if got := id.MaySubscribe(f); got != subscribe[at] {
				t.Errorf("%s may subscribe %s: the code says %v, the README %v", role, at, got, subscribe[at])
			}
		}
	}
	if len(grants) > 0 {
		t.Errorf("the README misses roles: %v", grants)
	}
}

func TestReadmeMessagesAreValid(t *testing.T) {
	direct := Address{Room: "garage", Kind: Direct, Dst: "cam1", Src: "alice"}
	n := 0
	for line := range strings.Lines(readme(t)) {
		line = strings.TrimSpace(line)
		text := strings.TrimLeft(line, "<> ")
		if !strings.HasPrefix(text, `{"`) {
			continue
		}
		n++
		if !json.Valid([]byte(text)) {
			t.Errorf("not JSON: %s", line)
			continue
		}
		var m struct{ Type string }
		_ = json.Unmarshal([]byte(text), &m)
		switch {
		case m.Type == TypeError:
			var e struct {
				Code      Code
				Reason    string
				Temporary bool
			}
			_ = json.Unmarshal([]byte(text), &e)
			if e.Reason != e.Code.Reason() || e.Temporary != e.Code.Temporary() {
				t.Errorf("the README says %+v, the code %s, temporary %v", e, e.Code.Reason(), e.Code.Temporary())
			}
		case line == text: // of the list of messages
			to := direct
			if m.Type == TypeICE {
				to.Dst = Server
			}
			if _, err := CheckMessage([]byte(text), to); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d examples found", n)
	}
}
