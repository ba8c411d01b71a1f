package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
)

// How long an edit waits for another one of a file in the same folder.
const (
	lockWait = 10 * time.Second
	lockLook = 10 * time.Millisecond
)

// editList changes the list that is the YAML file at path. Comments and order
// are kept. The file is replaced as a whole, with mode 0600; it is made if there
// is none. One with mistakes, which parse finds, is left as it is, and so is one
// that would have them.
//
// Its folder is locked meanwhile, so that of two at once none is lost. Windows,
// and file systems without flock, have no such lock: there the last one wins.
func editList(path string, parse func([]byte) error, change func(list *yaml.Node) error) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	data, err := readFile(path, maxUsers)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	doc, err := listOf(data, parse)
	if err != nil {
		return fmt.Errorf("the file has mistakes, so it stays as it is: %w", err)
	}
	if err := change(doc.Content[0]); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(doc), enc.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := parse(out.Bytes()); err != nil {
		return fmt.Errorf("the file would be wrong, so it stays as it was: %w", err)
	}
	return replaceFile(path, out.Bytes())
}

// listOf returns the document that data is: a list without mistakes, or an empty
// one where nothing is.
func listOf(data []byte, parse func([]byte) error) (*yaml.Node, error) {
	var doc, second yaml.Node
	in := yaml.NewDecoder(bytes.NewReader(data))
	err := in.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.SequenceNode, Tag: "!!seq"}}}, nil
	}
	whole := err == nil && doc.Kind == yaml.DocumentNode && len(doc.Content) == 1
	if whole {
		root := doc.Content[0]
		empty := root.Tag == "!!null" || root.Kind == yaml.SequenceNode && len(root.Content) == 0
		if empty && errors.Is(in.Decode(&second), io.EOF) {
			root.Kind, root.Tag, root.Value, root.Style = yaml.SequenceNode, "!!seq", "", 0
			return &doc, nil
		}
	}
	if err := parse(data); err != nil { // it says what, without what stands there
		return nil, err
	}
	if !whole || doc.Content[0].Kind != yaml.SequenceNode {
		return nil, errors.New("it is not a list in YAML")
	}
	return &doc, nil
}
