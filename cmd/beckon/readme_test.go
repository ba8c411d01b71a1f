package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadmeSettingsAreThoseOfTheProgram holds the table of settings against the
// flags. When it fails it prints the table as it must be.
func TestReadmeSettingsAreThoseOfTheProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := settingsTable(t); !strings.Contains(string(readme), want) {
		t.Errorf("the table of settings in README.md must be:\n\n%s", want)
	}
}

func settingsTable(t *testing.T) string {
	t.Helper()
	parser, err := newParser(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| flag | variable | default | |\n|---|---|---|---|\n")
	for _, command := range parser.Model.Children {
		if command.Name != "serve" {
			continue
		}
		for _, f := range command.Flags {
			if f.Name == "help" {
				continue
			}
			byDefault := ""
			if f.HasDefault {
				byDefault = "`" + f.Default + "`"
			}
			help := strings.ReplaceAll(f.Help, f.Enum, strings.ReplaceAll(f.Enum, ",", ", "))
			fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, strings.Join(f.Envs, " "), byDefault, help)
		}
	}
	return b.String()
}
