package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// script is examples/http-only as a process.
type script struct {
	t     *testing.T
	lines chan string
	stdin io.WriteCloser
	wait  func() error // for its end
	kill  func() error
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
	p := &script{t: t, lines: make(chan string, 1000), stdin: stdin, wait: sync.OnceValue(c.Wait)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	p.kill = func() error {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		return p.wait()
	}
	t.Cleanup(func() {
		_ = p.kill()
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

	if _, err := io.WriteString(bob.stdin, `{"type":"msg","to":"cam1","data":"last"}`); err != nil { // without a line end
		t.Fatal(err)
	}
	bob.stdin.Close()
	cam.until("the last line", func(e event) bool { return e.from == "bob" && strings.Contains(e.text, "last") })

	stranger := startScript(t, site.testServer, "", "garage", "eve")
	stranger.says(`"status":401`, `"reason":"unauthorized"`)
	if err := stranger.wait(); err == nil || err.Error() != "exit status 1" {
		t.Errorf("it ended with %v", err)
	}
}

func TestShellScriptSaysWhatWasNotSentAndComesBack(t *testing.T) {
	t.Parallel()
	var streams, messages atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && streams.Add(1) == 1:
			bridge.Problem(w, topics.Errorf(topics.Unavailable, "the server is overloaded; try again"))
		case r.Method == http.MethodGet:
			fmt.Fprint(w, "id: k.1\ndata: {\"type\":\"joined\"}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case messages.Add(1) == 1:
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintln(w, `{"status":"accepted"}`)
		default:
			panic(http.ErrAbortHandler) // the connection breaks
		}
	}))
	defer server.Close()
	bob := startScript(t, &testServer{URL: server.URL}, "", "garage", "bob")
	defer func() { _ = bob.kill() }()
	bob.says("overloaded")
	bob.says(`"type":"joined"`)
	bob.types(`{"n":1}`)
	bob.types(`{"n":2}`)
	for {
		line, open := <-bob.lines
		if !open || strings.Contains(line, "accepted") {
			t.Fatalf("the message that broke off is answered %q", line)
		}
		if line == `not sent: {"n":2}` {
			return
		}
	}
}
