package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// contestant is a server to compare.
type contestant struct {
	name  string
	doors []string // of "beckon bench"
	// get builds or finds the server, and returns its version. The error says what
	// is missing.
	get func(context.Context, *workshop) (version string, err error)
	// command is how it is started, with dir to write to.
	command func(w *workshop, dir string, at address) ([]string, error)
}

// address is where a server listens.
type address struct {
	tcp string // host:port for every door but mqttws
	ws  string // for that
}

// natsServer is the version of nats-server. It is built as its own module is, so
// that it is no dependency of Beckon.
const natsServer = "github.com/nats-io/nats-server/v2@v2.15.2"

// lineup is the servers, in the table's order.
var lineup = []contestant{
	{"Beckon", []string{"mqtt", "mqttws", "ws"}, getBeckon, startBeckon},
	{"mochi", []string{"mqtt", "mqttws"}, getMochi, startMochi},
	{"mosquitto", []string{"mqtt", "mqttws"}, getMosquitto, startMosquitto},
	{"nats-server", []string{"mqtt", "mqttws"}, getNATS, startNATS},
	{"PeerJS", []string{"peerjs"}, npm("peer"), node("peerjs.mjs")},
	{"ws-relay", []string{"relay"}, npm("ws"), node("relay.mjs")},
}

// getBeckon has it built already, as the generator of the load.
func getBeckon(ctx context.Context, w *workshop) (string, error) {
	commit, err := w.output(ctx, w.root, "git", "rev-parse", "--short=12", "HEAD")
	if err != nil { // an archive without its history
		return w.output(ctx, "", w.program("beckon"), "version")
	}
	// The table itself is no change.
	if _, err := w.output(ctx, w.root, "git", "diff", "--quiet", "HEAD", "--", ".", ":!README.md"); err != nil {
		commit += " with changes"
	}
	return "commit " + commit, nil
}

// startBeckon takes the budgets of messages and bytes away, as the load is flat out; every
// other limit stays.
func startBeckon(w *workshop, _ string, at address) ([]string, error) {
	args := []string{w.program("beckon"), "serve", "--dev", "--log-level=error", "--limit-rate=0", "--limit-bytes=0", "--listen=" + at.tcp}
	return append(args, "--listen="+at.ws), nil
}

func getMochi(ctx context.Context, w *workshop) (string, error) {
	if _, err := w.output(ctx, w.root, "go", "build", "-o", w.program("mochi"), "./examples/compare/servers/mochi"); err != nil {
		return "", err
	}
	return w.output(ctx, w.root, "go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/mochi-mqtt/server/v2")
}

func startMochi(w *workshop, _ string, at address) ([]string, error) {
	return []string{w.program("mochi"), at.tcp, at.ws}, nil
}

func getMosquitto(ctx context.Context, w *workshop) (string, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // which is in few users' PATH
	}
	if err := os.Symlink(path, w.program("mosquitto")); err != nil {
		return "", err
	}
	if _, err := os.Stat(w.program("mosquitto")); err != nil {
		return "", errors.New("the program mosquitto is not installed")
	}
	help, _ := w.output(ctx, "", path, "-h") // exits with 3
	version, _, _ := strings.Cut(strings.TrimPrefix(help, "mosquitto version "), "\n")
	return version + " with set_tcp_nodelay", nil
}

func startMosquitto(w *workshop, dir string, at address) ([]string, error) {
	config := fmt.Sprintf("allow_anonymous true\nset_tcp_nodelay true\nlog_type error\nlistener %s 127.0.0.1\nlistener %s 127.0.0.1\nprotocol websockets\n",
		port(at.tcp), port(at.ws))
	file := filepath.Join(dir, "mosquitto.conf")
	return []string{w.program("mosquitto"), "-c", file}, os.WriteFile(file, []byte(config), 0o644)
}

func getNATS(ctx context.Context, w *workshop) (string, error) {
	install := exec.CommandContext(ctx, "go", "install", natsServer)
	install.Env = append(os.Environ(), "GOBIN="+w.dir)
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s failed: %w\n%s", natsServer, err, bytes.TrimSpace(out))
	}
	version, err := w.output(ctx, "", w.program("nats-server"), "--version")
	return strings.TrimPrefix(version, "nats-server: "), err
}

// startNATS gives it JetStream, without which it has no MQTT.
func startNATS(w *workshop, dir string, at address) ([]string, error) {
	config := fmt.Sprintf("server_name: compare\nlisten: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\nmqtt { listen: %q }\nwebsocket { listen: %q, no_tls: true }\n",
		dir, at.tcp, at.ws)
	file := filepath.Join(dir, "nats.conf")
	return []string{w.program("nats-server"), "-c", file}, os.WriteFile(file, []byte(config), 0o644)
}

// npm gets a package of package.json.
func npm(name string) func(context.Context, *workshop) (string, error) {
	return func(ctx context.Context, w *workshop) (string, error) {
		version, err := w.output(ctx, "", "node", "--version")
		if err != nil {
			return "", errors.New("the program node is not installed")
		}
		file := w.own(filepath.Join("node_modules", name, "package.json"))
		if _, err := os.Stat(file); err != nil {
			if _, err := w.output(ctx, w.own("."), "npm", "ci", "--no-audit", "--no-fund"); err != nil {
				return "", err
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		var about struct{ Version string }
		if err := json.Unmarshal(text, &about); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		return fmt.Sprintf("npm %s %s on Node.js %s", name, about.Version, version), nil
	}
}

func node(script string) func(*workshop, string, address) ([]string, error) {
	return func(w *workshop, _ string, at address) ([]string, error) {
		return []string{"node", w.own(filepath.Join("servers", script)), port(at.tcp)}, nil
	}
}

// output runs a program, and returns what it printed.
func (w *workshop) output(ctx context.Context, dir, program string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%s %s failed: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), err
}
