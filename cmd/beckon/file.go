package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// file is the YAML file of --config, a kong.Resolver. What is wrong in it is
// collected, so that all is reported at once, with the other mistakes.
type file struct {
	path   string
	values map[string]any // by flag: a text, or a list of them
	wrong  []error
}

// BeforeResolve is called by kong when the flags and variables are read: it
// reads the file that one of them names.
func (s *serve) BeforeResolve(parsed *kong.Context) error {
	var flags []*kong.Flag
	for _, f := range parsed.Flags() {
		if f.Name == "config" {
			if path, _ := parsed.FlagValue(f).(string); path != "" {
				s.file = &file{path: path, values: make(map[string]any)}
			}
		}
		if f.Name != "help" {
			flags = append(flags, f)
		}
	}
	if s.file == nil {
		return nil
	}
	s.file.read(flags)
	parsed.AddResolver(s.file)
	return nil
}

// Resolve returns what the file has for a flag. An environment variable goes
// before it.
func (f *file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	return f.values[flag.Name], nil
}

// Validate is part of a kong.Resolver; serve.check reports what is wrong.
func (f *file) Validate(*kong.Application) error { return nil }

func (f *file) read(flags []*kong.Flag) {
	text, err := os.Open(f.path)
	if err != nil {
		f.wrong = append(f.wrong, fmt.Errorf("--config: %w", err))
		return
	}
	defer text.Close()
	var document, second yaml.Node
	decoder := yaml.NewDecoder(text)
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF): // nothing in it
		return
	case err != nil:
		f.wrong = append(f.wrong, fmt.Errorf("%s: %s", f.path, strings.TrimPrefix(err.Error(), "yaml: ")))
		return
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		f.wrong = append(f.wrong, fmt.Errorf("%s: there is more than one document in it", f.path))
	}
	settings := document.Content[0]
	if settings.Kind != yaml.MappingNode {
		f.mistake(settings, "the file takes lines like \"listen: 127.0.0.1:1883\"")
		return
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(settings.Content); i += 2 {
		key, value := settings.Content[i], settings.Content[i+1]
		at := slices.IndexFunc(flags, func(flag *kong.Flag) bool { return flag.Name == key.Value && key.Kind == yaml.ScalarNode })
		switch before := lines[key.Value]; {
		case before != 0:
			f.mistake(key, "%s is given twice, also in line %d", key.Value, before)
		case key.Value == "config":
			f.mistake(key, "config names this file and cannot stand in it")
		case at < 0:
			f.mistake(key, "%s is not a setting%s", shown(key), meant(key.Value, flags))
		default:
			f.set(flags[at], value)
		}
		lines[key.Value] = key.Line
	}
}

// set keeps value for flag, if it is one.
func (f *file) set(flag *kong.Flag, value *yaml.Node) {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	var texts []any
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		texts = []any{value.Value}
	case value.Kind == yaml.SequenceNode && flag.IsSlice() && len(value.Content) > 0:
		for _, v := range value.Content {
			if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
				f.mistake(v, "%s has an item that is not a text", flag.Name)
				return
			}
			texts = append(texts, v.Value)
		}
	case flag.IsSlice():
		f.mistake(value, "%s has no value: it takes one, or a list of them", flag.Name)
		return
	case value.Kind == yaml.ScalarNode:
		f.mistake(value, "%s has no value", flag.Name)
		return
	default:
		f.mistake(value, "%s takes one value", flag.Name)
		return
	}
	given := any(texts)
	if !flag.IsSlice() {
		given = texts[0]
		if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), value.Value) {
			f.mistake(value, "%s is %q, it takes one of %s", flag.Name, value.Value, strings.Join(flag.EnumSlice(), ", "))
			return
		}
	}
	scratch := reflect.New(flag.Target.Type()).Elem()
	decode := &kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(given, kong.FlagValueToken)}
	if err := flag.Mapper.Decode(decode, scratch); err != nil {
		f.mistake(value, "%s: %w", flag.Name, err)
		return
	}
	f.values[flag.Name] = given
}

func (f *file) mistake(at *yaml.Node, format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Errorf("%s:%d: "+format, append([]any{f.path, at.Line}, args...)...))
}

func shown(key *yaml.Node) string {
	if key.Kind != yaml.ScalarNode {
		return "a list or map"
	}
	return fmt.Sprintf("%q", key.Value)
}

// meant guesses which setting was: one that is spelled alike.
func meant(key string, flags []*kong.Flag) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
	}
	for _, f := range flags {
		if k, n := plain(key), plain(f.Name); k == n || k == n+"s" || k+"s" == n {
			return fmt.Sprintf("; did you mean %s?", f.Name)
		}
	}
	return ""
}
