package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// server is a contestant that runs, in a process of its own.
type server struct {
	at  address
	pid int

	dir    string
	stop   context.CancelFunc
	ended  chan struct{}
	output bytes.Buffer // read when it has ended
}

// How long a server may take to listen, and to end when it was asked to.
const (
	startTime = 15 * time.Second
	stopTime  = 5 * time.Second
)

// start returns when the server listens.
func (w *workshop) start(ctx context.Context, c contestant) (*server, error) {
	s := &server{ended: make(chan struct{})}
	for _, addr := range []*string{&s.at.tcp, &s.at.ws} {
		var err error
		if *addr, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	var err error
	if s.dir, err = os.MkdirTemp(w.dir, "server"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return nil, err
	}
	args, err := c.command(w, s.dir, s.at)
	if err != nil {
		return nil, err
	}
	var alive context.Context
	alive, s.stop = context.WithCancel(ctx)
	command := exec.CommandContext(alive, args[0], args[1:]...)
	command.Stdout, command.Stderr = &s.output, &s.output
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = stopTime
	if err := command.Start(); err != nil {
		s.stop()
		return nil, err
	}
	s.pid = command.Process.Pid
	go func() {
		defer close(s.ended)
		_ = command.Wait()
	}()
	listens := []string{s.at.tcp}
	if len(c.doors) > 1 {
		listens = append(listens, s.at.ws)
	}
	if err := s.listening(alive, listens); err != nil {
		s.end()
		return nil, fmt.Errorf("%w\n%s", err, bytes.TrimSpace(s.output.Bytes()))
	}
	return s, nil
}

// listening waits until the server accepts connections.
func (s *server) listening(ctx context.Context, addrs []string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for _, addr := range addrs {
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				conn.Close()
				break
			}
			select {
			case <-look.C:
			case <-s.ended:
				return errors.New("it ended at once")
			case <-ctx.Done():
				return fmt.Errorf("it does not listen at %s after %v", addr, startTime)
			}
		}
	}
	return nil
}

// end ends the process, and removes what it wrote.
func (s *server) end() {
	s.stop()
	<-s.ended
	_ = os.RemoveAll(s.dir)
}

// taken are the ports that were handed out.
var taken sync.Map

// freeAddress is an address on loopback that nobody listens at. Its port is not one
// that connections get, from 32768 on, since somebody's might have it by then.
func freeAddress() (string, error) {
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if _, twice := taken.LoadOrStore(addr, true); twice {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("no free port was found")
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
