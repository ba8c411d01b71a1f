package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/beckon-rtc/beckon/topics"
	"go.yaml.in/yaml/v3"
)

// Account is who may log in, and what it may do then: an entry of the users
// file, and the answer of the webhook.
//
//	name: cam1                    # as ValidName has it
//	password: $argon2id$v=19$...  # none: it logs in by certificate only
//	device: true                  # stays listed when it is offline
//	rooms: [garage, yard-*]       # a name, the beginning of one and "*", or a list
//	role: viewer                  # peer (default), viewer, observer, admin
//	peer: cam2                    # whom a viewer may watch
//	grants:                       # instead of rooms, role and peer, or beside them
//	  - {rooms: attic, role: observer}
//	topics:                       # outside the root
//	  - home/cam1/#               # both
//	  - publish: alarms/cam1
//	  - subscribe: commands/+
type Account struct {
	Name      string
	Password  string // hash, as [HashPassword] makes it
	Device    bool
	Grants    []topics.Grant
	Publish   []string // topic filters
	Subscribe []string
}

// fields reads into a, which errors call what.
func (a *Account) fields(d *document, what string, root topics.Root, g *grantReader) fields {
	f := g.fields(d, what)
	f["name"] = func(n *yaml.Node) {
		if name, ok := d.text(n, what+": name"); ok {
			if err := checkName(name); err != nil {
				d.mistake(n, "%s: %w", what, err)
			}
			a.Name = name
		}
	}
	f["device"] = func(n *yaml.Node) { a.Device = d.boolean(n, what+": device") }
	f["topics"] = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			n = &yaml.Node{Kind: yaml.SequenceNode, Line: n.Line, Content: []*yaml.Node{n}}
		}
		for _, item := range d.list(n, what+": topics") {
			a.topic(d, item, what, root)
		}
	}
	return f
}

// topic reads an item of topics: a filter, or publish: and subscribe: with one.
func (a *Account) topic(d *document, n *yaml.Node, what string, root topics.Root) {
	add := func(n *yaml.Node, lists ...*[]string) {
		filter, ok := d.text(n, what+": a filter of topics")
		if !ok {
			return
		}
		if err := checkFilter(filter, root); err != nil {
			d.mistake(n, "%s: topics: %w", what, err)
			return
		}
		for _, list := range lists {
			*list = append(*list, filter)
		}
	}
	if n.Kind != yaml.MappingNode {
		add(n, &a.Publish, &a.Subscribe)
		return
	}
	if len(n.Content) == 0 {
		d.mistake(n, "%s: topics has an empty item; it takes a filter, or publish: or subscribe: with one", what)
	}
	d.mapping(n, what+": an item of topics", fields{
		"publish":   func(n *yaml.Node) { add(n, &a.Publish) },
		"subscribe": func(n *yaml.Node) { add(n, &a.Subscribe) },
	})
}

// identity is who a is when it has logged in.
func (a *Account) identity(source, stamp string) topics.Identity {
	return topics.Identity{
		Name: a.Name, Grants: slices.Clone(a.Grants), Device: a.Device,
		Publish: slices.Clone(a.Publish), Subscribe: slices.Clone(a.Subscribe),
		Source: source, Stamp: stamp,
	}
}

// grantReader reads grants: rooms, role and peer, and a list of such.
type grantReader struct {
	rooms, role, peer *yaml.Node
	more              []topics.Grant
}

func (g *grantReader) fields(d *document, what string) fields {
	return fields{
		"rooms":  func(n *yaml.Node) { g.rooms = n },
		"role":   func(n *yaml.Node) { g.role = n },
		"peer":   func(n *yaml.Node) { g.peer = n },
		"grants": func(n *yaml.Node) { g.list(d, n, what) },
	}
}

func (g *grantReader) list(d *document, n *yaml.Node, what string) {
	for _, item := range d.list(n, what+": grants") {
		var one grantReader
		known := one.fields(d, what)
		delete(known, "grants")
		if d.mapping(item, what+": a grant", known) {
			if one.rooms == nil {
				d.mistake(item, "%s: a grant without rooms; name them", what)
			}
			g.more = append(g.more, one.grants(d, what)...)
		}
	}
}

// grants is what was read.
func (g *grantReader) grants(d *document, what string) []topics.Grant {
	role, of := topics.Peer, ""
	before := len(d.wrong)
	for _, n := range []*yaml.Node{g.role, g.peer} {
		if n != nil && g.rooms == nil {
			d.mistake(n, "%s has a role or peer without rooms; name the rooms", what)
			return g.more
		}
	}
	if g.role != nil {
		if text, ok := d.text(g.role, what+": role"); ok {
			if role, ok = parseRole(text); !ok {
				d.mistake(g.role, "%s: role %q is none; it takes peer, viewer, observer or admin", what, word(text))
			}
		}
	}
	if g.peer != nil {
		if text, ok := d.text(g.peer, what+": peer"); ok {
			if err := checkName(text); err != nil {
				d.mistake(g.peer, "%s: peer: %w", what, err)
			}
			of = text
		}
	}
	switch {
	case len(d.wrong) > before:
	case role == topics.Viewer && g.peer == nil:
		d.mistake(g.role, "%s is a viewer of nobody; name whom it may watch with \"peer\"", what)
	case role != topics.Viewer && g.peer != nil:
		d.mistake(g.peer, "%s has a peer, which only a viewer has; make it \"role: viewer\", or leave peer out", what)
	}
	var grants []topics.Grant
	if g.rooms != nil {
		for _, n := range d.texts(g.rooms, what+": rooms") {
			if err := checkRooms(n.Value); err != nil {
				d.mistake(n, "%s: %w", what, err)
			}
			grants = append(grants, topics.Grant{Room: n.Value, Role: role, Of: of})
		}
	}
	return append(grants, g.more...)
}

func parseRole(s string) (topics.Role, bool) {
	for r := topics.Peer; r <= topics.Admin; r++ {
		if r.String() == s {
			return r, true
		}
	}
	return 0, false
}

// checkName is topics.CheckName in the words of a file.
func checkName(name string) error {
	if topics.ValidName(name) {
		return nil
	}
	return fmt.Errorf("%q is not a name: it takes 1 to %d letters, digits, '_', '.' and '-', and begins with a letter or a digit", word(name), topics.MaxName)
}

// checkRooms checks a room of a grant: a name, the beginning of one and "*", or
// "*" alone.
func checkRooms(room string) error {
	if prefix, ok := strings.CutSuffix(room, "*"); topics.ValidName(prefix) || ok && prefix == "" {
		return nil
	}
	return fmt.Errorf("room %q is not a name: it takes 1 to %d letters, digits, '_', '.' and '-', begins with a letter or a digit, and may end with one *", word(room), topics.MaxName)
}

// word is cut for what takes no spaces: in a file where a colon is missing, a
// password can follow one.
func word(s string) string {
	if at := strings.IndexFunc(s, unicode.IsSpace); at >= 0 {
		s = s[:at+1] + "..."
	}
	return cut(s)
}

// cut keeps foreign text short in an error.
func cut(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// What a topic filter may be.
const (
	maxTopic  = 256
	maxLevels = 8
)

// checkFilter checks a filter for topics outside the root. None may reach what
// is inside, nor the topics that begin with "$": those are the server's. With
// an empty root it checks the form alone.
func checkFilter(filter string, root topics.Root) error {
	levels := strings.Split(filter, "/")
	switch {
	case len(filter) > maxTopic || len(levels) > maxLevels:
		return fmt.Errorf("filter %q is longer than %d bytes or %d levels", word(filter), maxTopic, maxLevels)
	case !utf8.ValidString(filter) || strings.ContainsFunc(filter, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }):
		return fmt.Errorf("filter %q has bytes that are no text", word(filter))
	case strings.HasPrefix(filter, "$"):
		return fmt.Errorf("filter %q begins with $, where the server has its own topics", word(filter))
	}
	for i, level := range levels {
		if level == "#" && i == len(levels)-1 || level == "+" {
			continue
		}
		if strings.ContainsAny(level, "#+") {
			return fmt.Errorf("filter %q has a wildcard in a wrong place: + stands for a whole level, # for all that follow, at the end", word(filter))
		}
	}
	if root != "" && reaches(levels, strings.Split(string(root), "/")) {
		return fmt.Errorf("filter %q reaches into the rooms (%s/...), where only rooms and roles count; make it narrower", word(filter), root)
	}
	return nil
}

// reaches reports whether a filter names the root, or can match a topic of the
// rooms: root, version, room and more. So "+/+" is too short to.
func reaches(filter, root []string) bool {
	named := true
	for i, level := range root {
		switch {
		case i >= len(filter):
			return false
		case filter[i] == "#":
			return true
		case filter[i] == "+":
			named = false
		case filter[i] != level:
			return false
		}
	}
	return named || len(filter) > len(root)+1 || filter[len(filter)-1] == "#"
}
