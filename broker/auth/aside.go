package auth

import (
	"errors"
	"io"
	"log/slog"
	"net/rpc"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// aside is a process of this program in which passwords are hashed, by
// [ServeHashes]. A hash takes a core for tens of milliseconds and 19 MiB. In the
// server's own process its thread cannot be put behind the others: one that the
// collector waits for would hold up all of them. A process can be, and so guesses
// take what signaling leaves. It is started when the first password comes, and
// again when it has ended.
type aside struct {
	command func() *exec.Cmd
	log     *slog.Logger

	mu      sync.Mutex // guards what follows
	process *exec.Cmd  // nil: it does not run
	client  *rpc.Client
	retry   time.Time // it is not asked before
	closed  bool
}

// pause is how long passwords are hashed in the server's own process when the one
// aside could not be started, ended, or did not answer in time.
const pause = 10 * time.Second

// patience is how long the process may take for one password. On a machine that
// leaves nothing for it, logins have to go on all the same.
const patience = time.Second

var errNotAside = errors.New("no process hashes passwords aside")

// matches asks the process whether h was made of password.
func (a *aside) matches(h hash, password string) (bool, error) {
	client, err := a.running()
	if err != nil {
		return false, err
	}
	call := client.Go("Hashes.Match", [2]string{h.String(), password}, new(bool), make(chan *rpc.Call, 1))
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-call.Done:
	case <-late.C:
		a.starved()
		return false, errNotAside
	}
	if call.Error != nil {
		a.lost(client, call.Error)
		return false, call.Error
	}
	return *call.Reply.(*bool), nil
}

// running is the client of the process, which is started if need be.
func (a *aside) running() (*rpc.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || time.Now().Before(a.retry) {
		return nil, errNotAside
	}
	if a.client != nil {
		return a.client, nil
	}
	if err := a.start(); err != nil {
		a.retry = time.Now().Add(pause)
		a.log.Warn("passwords are hashed in the server's own process, where guesses may hold up calls: the one for it could not be started", "error", err)
		return nil, err
	}
	return a.client, nil
}

// start is called with mu held.
func (a *aside) start() error {
	process := a.command()
	in, err := process.StdinPipe()
	if err != nil {
		return err
	}
	out, err := process.StdoutPipe()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	if err := process.Start(); err != nil {
		return err
	}
	a.process, a.client = process, rpc.NewClient(pipes{out, in})
	return nil
}

// starved leaves the process alone for a while, as the machine does.
func (a *aside) starved() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); !a.closed && !now.Before(a.retry) {
		a.retry = now.Add(pause)
		a.log.Warn("the process that hashes passwords gets no CPU; for a while they are hashed in the server's own, where guesses may hold up calls", "waited", patience, "while", pause)
	}
}

// lost ends a process that does not answer as it should.
func (a *aside) lost(client *rpc.Client, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != client {
		return // another has seen it
	}
	a.end()
	a.retry = time.Now().Add(pause)
	if !a.closed {
		a.log.Warn("the process that hashes passwords ended; until it is started again they are hashed in the server's own, where guesses may hold up calls", "error", err)
	}
}

// end is called with mu held.
func (a *aside) end() {
	if a.client == nil {
		return
	}
	_ = a.client.Close()
	_ = a.process.Process.Kill()
	_ = a.process.Wait()
	a.client, a.process = nil, nil
}

// close ends the process. Passwords that come afterwards are hashed here.
func (a *aside) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.end()
}

// pipes are standard input and output of a process, as a connection.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.WriteCloser.Close(), p.ReadCloser.Close()) }

// ServeHashes is what the process of [Config].Hasher does: it looks at passwords
// that come by in and answers by out, at the lowest priority that the system has,
// until in ends.
func ServeHashes(in io.ReadCloser, out io.WriteCloser) error {
	server := rpc.NewServer()
	tidy := time.AfterFunc(quiet, debug.FreeOSMemory)
	defer tidy.Stop()
	if err := server.RegisterName("Hashes", matcher{tidy}); err != nil {
		return err
	}
	server.ServeConn(pipes{in, out})
	return nil
}

// matcher is what is called in the process aside.
type matcher struct{ tidy *time.Timer }

// quiet is how long no password comes before the memory for them is given back:
// to have it given anew for each makes a hash take half as long again.
const quiet = 5 * time.Second

// Match sets ok if a hash was made of a password.
func (m matcher) Match(hashAndPassword [2]string, ok *bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stepAside()
	h, err := parseHash(hashAndPassword[0])
	if err != nil {
		return err
	}
	*ok = h.matches(hashAndPassword[1])
	m.tidy.Reset(quiet)
	return nil
}
