package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// token is the command that makes a token.
type token struct {
	JWTKey      string        `name:"jwt-key" help:"Secret or private key, as of beckon serve." required:"" env:"BECKON_JWT_KEY" placeholder:"FILE"`
	JWTIssuer   string        `name:"jwt-issuer" help:"Issuer (iss) to name." env:"BECKON_JWT_ISSUER" placeholder:"TEXT"`
	JWTAudience string        `name:"jwt-audience" help:"Audience (aud) to name." env:"BECKON_JWT_AUDIENCE" placeholder:"TEXT"`
	Name        string        `help:"Whose it is: the peer's name." required:""`
	Room        []string      `help:"Room, or the beginning of rooms and a *; may be repeated." required:""`
	Role        string        `help:"One of ${enum}." enum:"peer,viewer,observer,admin" default:"peer"`
	Peer        string        `help:"Whom a viewer may watch." placeholder:"NAME"`
	Device      bool          `help:"Stays listed when it is offline."`
	TTL         time.Duration `name:"ttl" help:"How long it is good for." default:"10m"`
}

// Run prints the token.
func (t *token) Run(out output) error {
	role, err := roleOf(t.Role)
	if err != nil {
		return usage(err)
	}
	if t.TTL <= 0 {
		return usage(errors.New("--ttl is not positive"))
	}
	signer, err := auth.New(auth.Config{JWTKey: t.JWTKey, JWTIssuer: t.JWTIssuer, JWTAudience: t.JWTAudience, Logger: slog.New(slog.NewTextHandler(out.stderr, nil))})
	if err != nil {
		return usage(err)
	}
	defer signer.Close()
	text, _, err := signer.SignToken(auth.Claims{Name: t.Name, Rooms: t.Room, Role: role, Peer: t.Peer, Device: t.Device, TTL: t.TTL})
	if err != nil {
		if wrong, ok := errors.AsType[*topics.Error](err); ok {
			err = errors.New(wrong.Message)
		}
		return usage(err)
	}
	_, err = fmt.Fprintln(out.stdout, text)
	return err
}

// roleOf is the role of that name.
func roleOf(name string) (topics.Role, error) {
	var names []string
	for role := topics.Peer; role <= topics.Admin; role++ {
		if role.String() == name {
			return role, nil
		}
		names = append(names, role.String())
	}
	return 0, fmt.Errorf("the role is none of %s", strings.Join(names, ", "))
}
