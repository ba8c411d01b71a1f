package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is YAML or JSON from outside that is being read, with what is wrong
// in it. All is collected, so that it is reported at once. A mistake names the
// place and never shows a value that may be a secret.
type document struct {
	name  string // of the file, or what it is
	wrong []error
}

func (d *document) mistake(n *yaml.Node, format string, args ...any) {
	where := d.name
	if n != nil && n.Line > 0 {
		where = fmt.Sprintf("%s:%d", d.name, n.Line)
	}
	if where != "" {
		where += ": "
	}
	d.wrong = append(d.wrong, fmt.Errorf("%s%w", where, fmt.Errorf(format, args...)))
}

func (d *document) err() error { return errors.Join(d.wrong...) }

// fields are what a mapping may have, and who reads each.
type fields map[string]func(*yaml.Node)

// mapping reads n, which is a what ("account"), as a mapping of those fields.
// Each may stand once, no other may stand.
func (d *document) mapping(n *yaml.Node, what string, known fields) bool {
	if n.Kind != yaml.MappingNode {
		d.mistake(n, "%s is %s, it takes lines such as \"name: ...\"", what, kindOf(n))
		return false
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		switch before, again := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode || !ok:
			d.mistake(key, "%s has a key %s that nobody knows; it takes %s", what, shown(key), known)
		case again && before > 0:
			d.mistake(key, "%s has %s twice, also in line %d; keep one", what, key.Value, before)
		case again:
			d.mistake(key, "%s has %s twice; keep one", what, key.Value)
		default:
			read(value)
		}
		lines[key.Value] = key.Line
	}
	return true
}

// String lists the names of the fields.
func (f fields) String() string {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// shown is a key as an error shows it: only if it looks like a key, since what
// stands in its place by mistake may be a secret.
func shown(key *yaml.Node) string {
	if key.Kind == yaml.ScalarNode && len(key.Value) <= 20 && keyLike.MatchString(key.Value) {
		return fmt.Sprintf("%q", key.Value)
	}
	return "(not shown)"
}

var keyLike = regexp.MustCompile(`^[a-zA-Z_-]+$`)

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias (*name), which is not taken here"
	case n.Tag == "!!null":
		return "empty"
	default:
		return "a text"
	}
}

// text reads a scalar as it was written.
func (d *document) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!binary" || n.Value == "" {
		d.mistake(n, "%s is %s, it takes a text", what, kindOf(n))
		return "", false
	}
	return n.Value, true
}

// texts reads a text or a list of them, which may not be empty.
func (d *document) texts(n *yaml.Node, what string) []*yaml.Node {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
		if len(items) == 0 {
			d.mistake(n, "%s is an empty list; name at least one, or leave it out", what)
		}
	}
	return slices.DeleteFunc(slices.Clone(items), func(item *yaml.Node) bool {
		_, ok := d.text(item, what)
		return !ok
	})
}

func (d *document) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		d.mistake(n, "%s is %s, it takes true or false", what, kindOf(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// list reads a list that is not empty.
func (d *document) list(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case n.Kind != yaml.SequenceNode:
		d.mistake(n, "%s is %s, it takes a list: lines that begin with \"- \"", what, kindOf(n))
		return nil
	case len(n.Content) == 0:
		d.mistake(n, "%s is an empty list; put something in it, or leave it out", what)
	}
	return n.Content
}

// yaml reads data as one YAML document and returns its root, or nil.
func (d *document) yaml(data []byte) *yaml.Node {
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := in.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && (doc.Kind != yaml.DocumentNode || len(doc.Content) != 1):
		d.mistake(nil, "it is empty")
		return nil
	case err != nil:
		d.mistake(nil, "%w", yamlError(err))
		return nil
	}
	if err := in.Decode(&second); !errors.Is(err, io.EOF) {
		d.mistake(nil, "it has a second document (after a line ---); keep one")
		return nil
	}
	return doc.Content[0]
}

// yamlError is err without what it quotes of the file: an unquoted password
// that begins with "*" or "&" would be in it.
func yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "anchor") {
		return errors.New("an alias (*name) is used that nothing defines; a value that begins with * takes quotes")
	}
	return fmt.Errorf("it is not YAML: %s", text)
}

// maxDepth is how deep JSON from outside may be.
const maxDepth = 16

// json reads data as one JSON value, into the same tree as yaml does, so that
// both go by the same rules.
func (d *document) json(data []byte) *yaml.Node {
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	n, err := jsonNode(in, maxDepth)
	if err == nil {
		if _, err = in.Token(); errors.Is(err, io.EOF) {
			return n
		}
		err = errors.New("there is more behind it")
	}
	d.mistake(nil, "it is not JSON as it is taken here: %s", jsonError(err))
	return nil
}

var errDepth = fmt.Errorf("it is deeper than %d levels", maxDepth)

// jsonError is err without what it quotes.
func jsonError(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("a mistake at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

func jsonNode(in *json.Decoder, depth int) (*yaml.Node, error) {
	if depth == 0 {
		return nil, errDepth
	}
	token, err := in.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for in.More() {
			child, err := jsonNode(in, depth-1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := in.Token()
		return n, err
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}, nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: v.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	}
}
