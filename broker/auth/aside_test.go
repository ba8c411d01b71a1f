package auth

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// asideOfTests makes a process of the test binary, which [TestMain] has hash.
func asideOfTests() *exec.Cmd {
	process := exec.Command(os.Args[0], "hash")
	process.Stderr = os.Stderr
	return process
}

// withAside has the accounts cam1 and cam2, and a process that hashes.
func withAside(t *testing.T, command func() *exec.Cmd) *subject {
	t.Helper()
	return newAuth(t, Config{Users: file(t, "users.yaml", account("cam1")+account("cam2")), Hasher: command, Logins: -1})
}

func (s *subject) processAside() *os.Process {
	s.hasher.aside.mu.Lock()
	defer s.hasher.aside.mu.Unlock()
	if s.hasher.aside.process == nil {
		return nil
	}
	return s.hasher.aside.process.Process
}

func TestPasswordsAreHashedByOneProcessAside(t *testing.T) {
	threat.Row(t, 29, 0)
	a := withAside(t, asideOfTests)
	a.lets(byName("cam1", password))
	process := a.processAside()
	if process == nil {
		t.Fatal("no process was started")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			a.refuses(byName("cam1", "wrong"), topics.Unauthorized, "name or password wrong")
			a.refuses(byName("nobody", password), topics.Unauthorized, "name or password wrong")
			a.lets(byName("cam2", password))
		})
	}
	all.Wait()
	if a.processAside() != process {
		t.Error("another process was started")
	}
	if text := a.out.String(); strings.Contains(text, "own process") {
		t.Errorf("some were not hashed there: %s", text)
	}
}

func TestLoginsGoOnWhenTheProcessAsideEnds(t *testing.T) {
	threat.Row(t, 29, 0)
	a := withAside(t, asideOfTests)
	a.lets(byName("cam1", password))
	first := a.processAside()
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	for a.processAside() != nil { // what it had read it may still have answered
		a.lets(byName("cam1", password))
		a.refuses(byName("cam1", "wrong"), topics.Unauthorized, "")
	}
	if text := a.out.String(); strings.Count(text, "the process that hashes passwords ended") != 1 {
		t.Errorf("the log: %s", text)
	}
	a.lets(byName("cam2", password))
	if a.processAside() != nil {
		t.Error("it was started again at once, as one that cannot live would be for each login")
	}
	a.hasher.aside.mu.Lock()
	a.hasher.aside.retry = a.hasher.aside.retry.Add(-pause)
	a.hasher.aside.mu.Unlock()
	a.lets(byName("cam1", password))
	if next := a.processAside(); next == nil || next.Pid == first.Pid {
		t.Error("it was not started again")
	}
}

func TestLoginsGoOnWithoutAProcessAside(t *testing.T) {
	threat.Row(t, 29, 0)
	a := withAside(t, func() *exec.Cmd { return exec.Command("/nowhere/beckon", "hash") })
	for range 3 {
		a.lets(byName("cam1", password))
		a.refuses(byName("cam1", "wrong"), topics.Unauthorized, "name or password wrong")
	}
	if text := a.out.String(); strings.Count(text, "could not be started") != 1 || !strings.Contains(text, "/nowhere/beckon") {
		t.Errorf("the log: %s", text)
	}
}

// One that never hashes is as one that is given no time by a busy machine.
func TestLoginsGoOnWhenTheProcessAsideDoesNotAnswer(t *testing.T) {
	threat.Row(t, 29, 0)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("there is no program that does nothing: ", err)
	}
	a := withAside(t, func() *exec.Cmd { return exec.Command(sleep, "60") })
	for range 3 {
		a.lets(byName("cam1", password))
	}
	if text := a.out.String(); strings.Count(text, "gets no CPU") != 1 {
		t.Errorf("the log: %s", text)
	}
}

func TestClosedAuthStartsNoProcess(t *testing.T) {
	a := withAside(t, asideOfTests)
	a.lets(byName("cam1", password))
	process := a.processAside()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("the process is still there: %v", err)
	}
	a.lets(byName("cam1", password))
	if a.processAside() != nil {
		t.Error("a process was started")
	}
}
