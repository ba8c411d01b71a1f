package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCommandsOfTheReadmeMakeAServerWithAccounts types what the README says about
// accounts, one line after the other, into a shell in an empty folder. The program
// is there already, and nobody is to type a password.
func TestCommandsOfTheReadmeMakeAServerWithAccounts(t *testing.T) {
	t.Parallel()
	for _, needed := range []string{"sh", "openssl"} {
		if _, err := exec.LookPath(needed); err != nil {
			missing(t, err.Error())
		}
	}
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	bin, folder := t.TempDir(), t.TempDir()
	if err := os.Symlink(program, filepath.Join(bin, "beckon")); err != nil {
		t.Fatal(err)
	}
	shell := func(line string) *exec.Cmd {
		c := exec.Command("sh", "-c", line)
		c.Dir = folder
		c.Env = append(os.Environ(), asProgram+"=1", "PATH="+bin+":"+os.Getenv("PATH"))
		return c
	}
	typed := 0
	for line := range strings.Lines(accountsOfTheReadme(t)) {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "go build"):
			continue
		case strings.HasPrefix(line, "beckon passwd"):
			line += " --generate"
		case strings.HasPrefix(line, "beckon serve"):
			servesAndStops(t, shell("exec "+line+" --listen 127.0.0.1:0"))
			typed++
			continue
		}
		if said, err := shell(line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, said)
		}
		typed++
	}
	if typed < 6 {
		t.Errorf("the README has %d commands", typed)
	}
}

// accountsOfTheReadme is the first block of commands under Accounts.
func accountsOfTheReadme(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Accounts\n")
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatal("the README has no commands under Accounts")
	}
	return block
}

// servesAndStops demands that a server gets ready, and stops it.
func servesAndStops(t *testing.T, server *exec.Cmd) {
	t.Helper()
	stderr, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	hangs := time.AfterFunc(2*atMost, func() { server.Process.Kill() })
	defer hangs.Stop()
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "ready ") {
			server.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := server.Wait(); err != nil || !strings.Contains(said.String(), "\nready ") && !strings.HasPrefix(said.String(), "ready ") {
		t.Errorf("%v: %v\n%s", server.Args, err, &said)
	}
}
