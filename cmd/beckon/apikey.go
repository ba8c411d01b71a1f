package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// apiKey is the command that makes a key for POST /api/v1/tokens.
type apiKey struct {
	File string        `name:"api-key" help:"File of keys, as of beckon serve; made if there is none." required:"" env:"BECKON_API_KEY" placeholder:"FILE"`
	Name string        `arg:"" help:"Name of the key, for logs."`
	Room []string      `help:"Room that its tokens may be for, or the beginning of rooms and a *; may be repeated." required:""`
	Role string        `help:"What they may allow there at most, one of ${enum}." enum:"peer,viewer,observer,admin" default:"peer"`
	Peer string        `help:"Whom a viewer may watch." placeholder:"NAME"`
	TTL  time.Duration `name:"ttl" help:"How long a token may live at most." default:"1h"`
}

// Run adds the key to the file and prints it, which nothing does again.
func (k *apiKey) Run(out output) error {
	role, err := k.check()
	if err != nil {
		return usage(err)
	}
	var grants []topics.Grant
	for _, room := range k.Room {
		grants = append(grants, topics.Grant{Room: room, Role: role, Of: k.Peer})
	}
	key, err := auth.AddAPIKey(k.File, k.Name, grants, k.TTL)
	if err != nil {
		return usage(err)
	}
	if _, err := fmt.Fprintln(out.stdout, key); err != nil {
		return fmt.Errorf("key %s is in %s but could not be shown, so take it out there: %w", k.Name, k.File, err)
	}
	fmt.Fprintf(out.stderr, "%s is in %s; its key is not shown again\n", k.Name, k.File)
	return nil
}

func (k *apiKey) check() (topics.Role, error) {
	role, err := roleOf(k.Role)
	wrong := []error{err}
	if err := topics.CheckName("key", k.Name); err != nil {
		wrong = append(wrong, errors.New(topics.AsError(err).Message))
	}
	switch {
	case role == topics.Viewer && k.Peer == "":
		wrong = append(wrong, errors.New("--role viewer needs --peer, whom it may watch"))
	case role != topics.Viewer && k.Peer != "":
		wrong = append(wrong, errors.New("--peer is for --role viewer only"))
	}
	if k.TTL < time.Second {
		wrong = append(wrong, errors.New("--ttl is shorter than a second"))
	}
	return role, errors.Join(wrong...)
}
