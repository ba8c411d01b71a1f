package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// program is the server as a process of its own, on one port, which can be killed
// and started again.
type program struct {
	*site
	path   string // of the binary
	env    []string
	args   []string
	cmd    *exec.Cmd
	starts int
}

// freePort is one that was free a moment ago, and not of those that the system
// gives to connections (32768 and above, on Linux): any of them could take it while
// the program is down.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// startMortal starts it.
func startMortal(t testing.TB, args ...string) *program {
	t.Helper()
	return startBinary(t, os.Args[0], []string{asProgram + "=1"}, append([]string{"--grace=" + chaosGrace.String(),
		"--limit-rate=0", "--limit-joins=0", "--limit-sessions=0", "--limit-logins=0"}, args...)...)
}

// startBinary starts a binary of it, on a port of its own.
func startBinary(t testing.TB, path string, env []string, args ...string) *program {
	t.Helper()
	addr := freePort(t)
	p := &program{
		site: &site{testServer: &testServer{MQTT: addr, Log: new(logs)}},
		path: path, env: env,
		args: append([]string{"serve", "--listen=" + addr}, args...),
	}
	p.URL, p.WS = "http://"+addr, "ws://"+addr+"/ws"
	p.start(t)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of the server:\n%s", p.Log)
		}
	})
	return p
}

func (p *program) start(t testing.TB) {
	t.Helper()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = p.Log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.starts++
	eventually(t, "the server to be ready", func() bool { return strings.Count(p.Log.String(), "ready mqtt") == p.starts })
}

// kill ends it by SIGKILL, in the middle of whatever it does.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
