package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script is examples/http-only as a process.
type script struct {
	t     *testing.T
	lines chan string
	stdin io.Writer
}

func startScript(t *testing.T, s *testServer, token string, args ...string) *script {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl is not installed")
	}
	c := exec.Command("../../examples/http-only/peer.sh", args...)
	c.Env = append(os.Environ(), "BECKON_URL="+s.URL, "BECKON_TOKEN="+token, "TMPDIR="+t.TempDir(), "no_proxy=127.0.0.1")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	c.Stdout, c.Stderr, c.WaitDelay = in, in, time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &script{t: t, lines: make(chan string, 1000), stdin: stdin}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		_ = c.Wait()
		in.Close()
		<-read
	})
	return p
}

func (p *script) says(words ...string) {
	p.t.Helper()
	late := time.After(atMost)
next:
	for {
		select {
		case line, open := <-p.lines:
			if !open {
				p.t.Fatalf("the script ended before it said %q", words)
			}
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue next
				}
			}
			return
		case <-late:
			p.t.Fatalf("the script never says %q", words)
		}
	}
}

func (p *script) types(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func TestShellScriptIsAPeerByCurl(t *testing.T) {
	site := startSite(t, "--jwt-key="+writeFile(t, "jwt.key", secret))
	cam := site.member(t, mqtt5TCP, "cam1", tokenOf(t, "cam1", time.Hour))
	bob := startScript(t, site.testServer, tokenOf(t, "bob", time.Hour), "garage", "bob")
	bob.says(`"type":"joined"`, `"peer":"cam1"`)
	cam.sees("bob")
	bob.types(`{"type":"msg","to":"cam1","data":{"ptz":"left"}}`)
	cam.until("the message", func(e event) bool { return e.from == "bob" && e.text == `{"type":"msg","data":{"ptz":"left"}}` })
	cam.send("bob", `{"type":"msg","data":"done"}`)
	bob.says(`"from":"cam1"`, `"data":"done"`)
	bob.types(`{"type":"msg","to":"nobody"}`)
	bob.says(`"reason":"not-found"`, "there is no nobody in garage")

	stranger := startScript(t, site.testServer, "", "garage", "eve")
	stranger.says("401")
}
