package auth

import (
	"fmt"
	"log/slog"

	"github.com/beckon-rtc/beckon/topics"
	"go.yaml.in/yaml/v3"
)

// users is the users file, read.
type users struct {
	byName map[string]*user
	nobody hash // is hashed against when there is no such account
}

type user struct {
	Account
	hash  hash
	stamp string
	line  int
}

// user returns the account of that name, or nil.
func (u *users) user(name string) *user {
	if u == nil {
		return nil
	}
	return u.byName[name]
}

// parseUsers reads data, the users file called name.
func parseUsers(name string, data []byte, root topics.Root, certificates bool) (*users, error) {
	d := &document{name: name}
	u := &users{byName: make(map[string]*user)}
	if list := d.yaml(data); list != nil {
		for i, n := range d.list(list, "the users file") {
			u.read(d, n, i, root, certificates)
		}
	}
	u.nobody = unmatched(u.usual())
	return u, d.err()
}

func (u *users) read(d *document, n *yaml.Node, i int, root topics.Root, certificates bool) {
	what := fmt.Sprintf("account %d", i+1)
	if name := valueOf(n, "name"); name != nil && topics.ValidName(name.Value) {
		what = "account " + name.Value
	}
	a := &user{line: n.Line}
	var g grantReader
	var named, secret bool
	known := a.fields(d, what, root, &g)
	name := known["name"]
	known["name"] = func(n *yaml.Node) { named = true; name(n) }
	known["password"] = func(n *yaml.Node) {
		secret = true
		text, ok := d.text(n, what+": password")
		if !ok {
			return
		}
		var err error
		if a.hash, err = parseHash(text); err != nil {
			d.mistake(n, "%s: password %w", what, err)
		}
		a.Password = text
	}
	before := len(d.wrong)
	if !d.mapping(n, what, known) {
		return
	}
	a.Grants = g.grants(d, what)
	switch {
	case !named:
		d.mistake(n, "%s has no name", what)
		return
	case len(d.wrong) > before:
	case len(a.Grants)+len(a.Publish)+len(a.Subscribe) == 0:
		d.mistake(n, "%s may do nothing; give it rooms, grants or topics", what)
	case !secret && !certificates:
		d.mistake(n, "%s has no password, so it can log in by certificate only, and --client-ca is not set; give it one with \"beckon passwd\"", what)
	}
	if other := u.byName[a.Name]; other != nil {
		d.mistake(n, "%s is there twice, also in line %d; keep one", what, other.line)
		return
	}
	if a.Name != "" {
		u.byName[a.Name] = a
	}
}

// usual is what most hashes of the file cost: a name that is not there takes
// as long as one that is.
func (u *users) usual() cost {
	count := make(map[cost]int)
	for _, a := range u.byName {
		if len(a.hash.key) > 0 {
			count[a.hash.cost]++
		}
	}
	most := defaultCost
	for c, n := range count {
		if n > count[most] || n == count[most] && c.work() > most.work() {
			most = c
		}
	}
	return most
}

// warn says what is no mistake but should not stay.
func (u *users) warn(log *slog.Logger, file string) {
	weak, other := 0, 0
	for _, a := range u.byName {
		if a.Password == "" {
			continue
		}
		if a.hash.weak() {
			weak++
		}
		if a.hash.cost != u.nobody.cost {
			other++
		}
	}
	if weak > 0 {
		log.Warn("password hashes are weaker than they should be; set the passwords anew with beckon passwd", "file", file, "accounts", weak)
	}
	if other > 0 {
		log.Warn("password hashes differ in cost, by which names can be told from each other; set the passwords anew with beckon passwd", "file", file, "accounts", other)
	}
}

// valueOf returns the value of key in the mapping n, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// SetUser adds a to the users file at path, or changes the account of its name
// there: what a has replaces what the file has, what a leaves empty stays.
// Comments and order are kept. The file is replaced as a whole, with mode 0600;
// it is made if there is none. A file with mistakes is left as it is. Two at once
// wait for each other, but not on Windows, where one of them can be lost.
func SetUser(path string, a Account) error {
	if err := checkName(a.Name); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	parse := func(data []byte) error {
		_, err := parseUsers(path, data, "", true)
		return err
	}
	return editList(path, parse, func(list *yaml.Node) error {
		n := named(list, a.Name)
		if n == nil {
			n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			list.Content = append(list.Content, n)
			setField(n, "name", a.Name)
		}
		a.write(n)
		return nil
	})
}

// named returns the entry of list that has the name, or nil.
func named(list *yaml.Node, name string) *yaml.Node {
	for _, n := range list.Content {
		if has := valueOf(n, "name"); has != nil && has.Value == name {
			return n
		}
	}
	return nil
}

// write puts what a has into the entry n.
func (a *Account) write(n *yaml.Node) {
	if a.Password != "" {
		setField(n, "password", a.Password)
	}
	if len(a.Grants) > 0 {
		a.writeGrants(n)
	}
	if a.Device {
		setField(n, "device", true)
	}
	if len(a.Publish)+len(a.Subscribe) > 0 {
		var list []map[string]string
		for _, f := range a.Publish {
			list = append(list, map[string]string{"publish": f})
		}
		for _, f := range a.Subscribe {
			list = append(list, map[string]string{"subscribe": f})
		}
		setField(n, "topics", list)
	}
}

// writeGrants writes the short form where one role fits all rooms.
func (a *Account) writeGrants(n *yaml.Node) {
	type entry struct {
		Rooms []string `yaml:"rooms,flow"`
		Role  string   `yaml:"role"`
		Peer  string   `yaml:"peer,omitempty"`
	}
	var entries []entry
	for _, g := range a.Grants {
		if last := len(entries) - 1; last >= 0 && entries[last].Role == g.Role.String() && entries[last].Peer == g.Of {
			entries[last].Rooms = append(entries[last].Rooms, g.Room)
			continue
		}
		entries = append(entries, entry{[]string{g.Room}, g.Role.String(), g.Of})
	}
	if len(entries) > 1 {
		setField(n, "rooms", nil)
		setField(n, "role", nil)
		setField(n, "peer", nil)
		setField(n, "grants", entries)
		return
	}
	e := entries[0]
	setField(n, "grants", nil)
	setField(n, "rooms", e.Rooms)
	valueOf(n, "rooms").Style = yaml.FlowStyle
	setField(n, "role", nil)
	setField(n, "peer", nil)
	if e.Role != topics.Peer.String() {
		setField(n, "role", e.Role)
	}
	if e.Peer != "" {
		setField(n, "peer", e.Peer)
	}
}

// setField sets key of the mapping n, keeping its comments; nil takes it out.
func setField(n *yaml.Node, key string, value any) {
	at := -1
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			at = i
		}
	}
	if value == nil {
		if at >= 0 {
			n.Content = append(n.Content[:at], n.Content[at+2:]...)
		}
		return
	}
	var v yaml.Node
	if err := v.Encode(value); err != nil {
		panic(err) // texts, lists and maps of them
	}
	if at < 0 {
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &v)
		return
	}
	old := n.Content[at+1]
	v.HeadComment, v.LineComment, v.FootComment = old.HeadComment, old.LineComment, old.FootComment
	n.Content[at+1] = &v
}
