package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"unicode/utf8"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// passwd is the command that adds an account, or changes one.
type passwd struct {
	Users    string   `help:"File of accounts; made if there is none." required:"" env:"BECKON_USERS" placeholder:"FILE"`
	Name     string   `arg:"" help:"Name of the account, and of the peer."`
	Room     []string `help:"Room it may be in, or the beginning of rooms and a *; may be repeated. Without it an account keeps those it has."`
	Role     string   `help:"What it may do there, one of ${enum}." enum:"peer,viewer,observer,admin" default:"peer"`
	Peer     string   `help:"Whom a viewer may watch." placeholder:"NAME"`
	Device   bool     `help:"Stays listed when it is offline."`
	Generate bool     `help:"Make a password and print it, rather than read one from standard input."`
}

// What a password may be.
const (
	minPassword = 8
	maxPassword = 1024 // bytes, as of package auth
)

// Run changes the file.
func (p *passwd) Run(out output) error {
	account := auth.Account{Name: p.Name, Device: p.Device}
	role, err := p.check()
	if err != nil {
		return usage(err)
	}
	for _, room := range p.Room {
		account.Grants = append(account.Grants, topics.Grant{Room: room, Role: role, Of: p.Peer})
	}
	password := rand.Text()
	if !p.Generate {
		if password, err = readPassword(out); err != nil {
			return err
		}
	}
	account.Password = auth.HashPassword(password)
	if err := auth.SetUser(p.Users, account); err != nil {
		return usage(err)
	}
	fmt.Fprintf(out.stderr, "%s has a new password in %s\n", p.Name, p.Users)
	if p.Generate {
		_, err = fmt.Fprintln(out.stdout, password)
	}
	return err
}

func (p *passwd) check() (topics.Role, error) {
	role, err := roleOf(p.Role)
	wrong := []error{err}
	if err := topics.CheckName("account", p.Name); err != nil {
		wrong = append(wrong, errors.New(topics.AsError(err).Message))
	}
	if len(p.Room) == 0 && (role != topics.Peer || p.Peer != "") {
		wrong = append(wrong, errors.New("--role and --peer are for the rooms of --room, and none is given"))
	}
	switch {
	case role == topics.Viewer && p.Peer == "":
		wrong = append(wrong, errors.New("--role viewer needs --peer, whom it may watch"))
	case role != topics.Viewer && p.Peer != "":
		wrong = append(wrong, errors.New("--peer is for --role viewer only"))
	}
	return role, errors.Join(wrong...)
}

// readPassword reads a line from standard input; at a terminal it is asked for
// twice, and not shown.
func readPassword(out output) (string, error) {
	if !isTerminal(out.stdin) {
		text, err := io.ReadAll(io.LimitReader(out.stdin, maxPassword+3))
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		return checkPassword(string(text))
	}
	restore, err := hideTyping(out.stdin)
	if err != nil {
		return "", fmt.Errorf("this terminal would show the password (%w): write it to standard input, or take --generate", err)
	}
	defer restore()
	lines := bufio.NewReader(out.stdin)
	var answers [2]string
	for i, prompt := range []string{"Password: ", "The same again: "} {
		fmt.Fprint(out.stderr, prompt)
		answers[i], err = lines.ReadString('\n')
		fmt.Fprintln(out.stderr)
		if err != nil {
			return "", errors.New("no password was given")
		}
	}
	if answers[0] != answers[1] {
		return "", errors.New("the two are not the same; nothing was changed")
	}
	return checkPassword(answers[0])
}

func checkPassword(line string) (string, error) {
	password := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return "", usage(fmt.Errorf("a password has %d characters or more", minPassword))
	case len(password) > maxPassword:
		return "", usage(fmt.Errorf("a password has at most %d bytes", maxPassword))
	case !utf8.ValidString(password) || bytes.ContainsAny([]byte(password), "\x00\r\n"):
		return "", usage(errors.New("a password is one line of text"))
	}
	return password, nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// hideTyping has the terminal not show what is typed, until restore is called or
// the program is interrupted.
func hideTyping(terminal *os.File) (restore func(), err error) {
	stty := func(args ...string) ([]byte, error) {
		c := exec.Command("stty", args...)
		c.Stdin = terminal
		return c.Output()
	}
	before, err := stty("-g")
	if err != nil {
		return nil, err
	}
	if _, err := stty("-echo"); err != nil {
		return nil, err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	done := make(chan struct{})
	show := func() { _, _ = stty(strings.TrimSpace(string(before))) }
	go func() {
		select {
		case <-interrupted:
			show()
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(interrupted)
		close(done)
		show()
	}, nil
}
