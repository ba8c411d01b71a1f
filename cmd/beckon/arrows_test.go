package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/beckon-rtc/beckon"

// TestArrowsPointDown holds the imports between the parts against a table. A
// package that is not in it may import nothing of the module: a new one needs a
// line.
func TestArrowsPointDown(t *testing.T) {
	allowed := map[string][]string{
		"topics":           {},
		"topics/threat":    {}, // for tests, which may all import it
		"topics/pace":      {},
		"broker/guard":     {"topics/pace"},
		"broker/auth":      {"topics"},
		"broker/turn":      {"topics"},
		"broker":           {"topics", "topics/pace", "broker/guard"},
		"bridge":           {"topics", "topics/pace"},
		"bridge/bustest":   {"topics", "bridge"},
		"bridge/door":      {"topics", "bridge"},
		"bridge/rest":      {"topics", "bridge"},
		"bridge/whip":      {"topics", "bridge"},
		"bridge/ws":        {"topics", "bridge"},
		"cmd/beckon/api":   {},
		"cmd/beckon/page":  {},
		"cmd/beckon/bench": {"topics"},
		"cmd/beckon":       {"topics", "broker", "broker/auth", "broker/turn", "bridge", "bridge/door", "bridge/rest", "bridge/whip", "bridge/ws", "cmd/beckon/api", "cmd/beckon/page", "cmd/beckon/bench"},
		"examples/compare": {"cmd/beckon/bench"}, // the shape of its result
	}
	foreign := map[string][]string{ // who alone may import a foreign module
		"github.com/mochi-mqtt/server/v2":         {"broker", "examples/compare/servers/mochi"},
		"github.com/gorilla/websocket":            {"bridge/door", "bridge/ws", "cmd/beckon/bench"},
		"github.com/eclipse/paho.mqtt.golang":     {"examples/camera", "examples/integrator"},
		"github.com/pion/webrtc/v4":               {"examples/camera"},
		"github.com/pion/turn/v5":                 {"broker/turn"},
		"github.com/golang-jwt/jwt/v5":            {"broker/auth"},
		"github.com/go-jose/go-jose/v4":           {"broker/auth"},
		"golang.org/x/crypto/acme":                {"cmd/beckon"},
		"github.com/alecthomas/kong":              {"cmd/beckon"},
		"github.com/pires/go-proxyproto":          {"bridge/door"},
		"github.com/HdrHistogram/hdrhistogram-go": {"cmd/beckon/bench"},
	}
	for pkg, imports := range importsOf(t) {
		for _, imported := range imports {
			if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
				if !slices.Contains(allowed[pkg], inside) {
					t.Errorf("%s imports %s, which the arrows do not allow", pkg, inside)
				}
				continue
			}
			for mod, users := range foreign {
				if (imported == mod || strings.HasPrefix(imported, mod+"/")) && !slices.Contains(users, pkg) {
					t.Errorf("%s imports %s, which is for %v alone", pkg, imported, users)
				}
			}
			if pkg == "topics" && strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("topics imports %s, it takes the standard library only", imported)
			}
		}
	}
}

// importsOf lists the imports of every package of the module, without tests.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		imports[strings.TrimPrefix(fields[0], module+"/")] = fields[1:]
	}
	return imports
}
