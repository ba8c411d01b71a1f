package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/beckon-rtc/beckon/broker/auth"
)

// hash is the command that serve starts for itself when the first password comes.
type hash struct{}

// Run looks at passwords until the server ends. The signals that stop a server
// are for the server: it still lets clients in while it drains.
func (hash) Run(out output) error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return auth.ServeHashes(out.stdin, os.Stdout)
}

// hasher makes a process of this program that runs [hash].
func hasher() *exec.Cmd {
	process := exec.Command(self(), "hash")
	process.Args[0] = os.Args[0]
	process.Stderr = os.Stderr
	return process
}

// self is the file of this program, also after it was replaced by a newer one.
func self() string {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe"
	}
	name, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return name
}
