package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// accountSettings are the settings of who may come in, a part of [serve].
type accountSettings struct {
	Users       string `help:"Accounts (YAML), as beckon passwd writes them. This and the other files are read again when they change." env:"BECKON_USERS" placeholder:"FILE"`
	JWTKey      string `name:"jwt-key" help:"Key that tokens are signed with: a secret of 32 bytes or more (HS256), or a key in PEM (RS256, ES256, EdDSA)." env:"BECKON_JWT_KEY" placeholder:"FILE"`
	JWKS        string `name:"jwks" help:"Set of such public keys (JWKS), a file or a URL." env:"BECKON_JWKS" placeholder:"FILE|URL"`
	JWTIssuer   string `name:"jwt-issuer" help:"Issuer (iss) that a token must have." env:"BECKON_JWT_ISSUER" placeholder:"TEXT"`
	JWTAudience string `name:"jwt-audience" help:"Audience (aud) that a token must have." env:"BECKON_JWT_AUDIENCE" placeholder:"TEXT"`
	AuthURL     string `name:"auth-url" help:"Webhook that is asked who may come in, for credentials that no file knows." env:"BECKON_AUTH_URL" placeholder:"URL"`
	APIKey      string `name:"api-key" help:"Keys (YAML) by which POST /api/v1/tokens makes tokens; needs --jwt-key." env:"BECKON_API_KEY" placeholder:"FILE"`
}

// given names the settings of these that are set.
func (s *accountSettings) given() []string {
	var given []string
	for _, setting := range []struct{ flag, value string }{
		{"--users", s.Users}, {"--jwt-key", s.JWTKey}, {"--jwks", s.JWKS}, {"--jwt-issuer", s.JWTIssuer},
		{"--jwt-audience", s.JWTAudience}, {"--auth-url", s.AuthURL}, {"--api-key", s.APIKey},
	} {
		if setting.value != "" {
			given = append(given, setting.flag)
		}
	}
	return given
}

func (s *serve) authConfig(log *slog.Logger) auth.Config {
	c := auth.Config{
		Users: s.Users, JWTKey: s.JWTKey, JWKS: s.JWKS, JWTIssuer: s.JWTIssuer, JWTAudience: s.JWTAudience,
		Webhook: s.AuthURL, APIKeys: s.APIKey, ClientCA: s.ClientCA, ClientCRL: s.ClientCRL,
		Hasher: hasher, Logins: s.LimitLogins, Logger: log,
	}
	if c.Logins == 0 {
		c.Logins = -1
	}
	if root := topics.Root(s.Root); root.Check() == nil { // otherwise it is reported once
		c.Root = root
	}
	return c
}

// checkAccounts says what is wrong with who may come in, all at once.
func (s *serve) checkAccounts() error {
	if s.Dev {
		given := s.given()
		if s.ClientCA != "" {
			given = append(given, "--client-ca")
		}
		if len(given) > 0 {
			return fmt.Errorf("--dev lets anyone in, so %s would count for nothing: leave --dev out to have accounts", strings.Join(given, ", "))
		}
		return nil
	}
	c := s.authConfig(slog.New(slog.DiscardHandler))
	a, err := auth.New(c)
	if a != nil {
		err = errors.Join(err, a.Close())
	}
	if !c.Configured() {
		return errors.Join(errors.New("nobody could come in: no credentials are configured; set --users (beckon passwd adds accounts), "+
			"--jwt-key, --jwks or --auth-url; --dev lets anyone in, on loopback only"), err)
	}
	return err
}

// inTheClear are the addresses where credentials may come unencrypted from
// other machines.
func (s *serve) inTheClear(addrs []net.Addr) []string {
	if s.Dev || s.TLSOnly {
		return nil
	}
	var open []string
	for _, a := range addrs {
		if host, _, err := net.SplitHostPort(a.String()); err == nil && !loopback(host) {
			open = append(open, a.String())
		}
	}
	return open
}

// accounts is who may come in: what [auth.Auth] says, for the parts of a server.
type accounts struct {
	*auth.Auth
	broker   *broker.Broker
	ice      *ice
	refusals *refusals
}

// paced is authenticate with a budget of connections for each identity: two
// devices of one name, of which each puts the other out, would go on for ever. A
// connection is what makes a peer of a room: an MQTT connection, a WebSocket or an
// event stream. A request that opens none has a budget of its door instead: what
// it says counts under that of its stream, sessions of WHIP and WHEP under that of
// joins, and all else as frames do.
func paced(authenticate bridge.Authenticate, perSecond int) bridge.Authenticate {
	arrivals := door.NewArrivals[string](perSecond, 0)
	return func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
		id, err := authenticate(ctx, c)
		if err != nil {
			return id, err
		}
		if wait, _ := arrivals.Take(id.Name); wait > 0 {
			return topics.Identity{}, door.TooMany("of "+id.Name+", which another may have as its name, too", wait)
		}
		return id, nil
	}
}

// authenticate finds out who a client is. The HTTP connection of one that is let in is
// kept longer than a stranger's.
func (a *accounts) authenticate(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
	id, err := a.Auth.Authenticate(ctx, c)
	if err == nil {
		door.Known(ctx)
	}
	return id, err
}

// refresh gives a session the identity of a new token.
func (a *accounts) refresh(ctx context.Context, bus bridge.Bus, c topics.Credentials) error {
	session := bus.(*broker.Session) // house.connect made it
	id, err := a.Auth.Refresh(ctx, session.Identity(), c)
	a.refusals.note("ws", c, err)
	if err != nil {
		return err
	}
	return session.Renew(id)
}

// mint makes a token for who shows an API key.
func (a *accounts) mint(ctx context.Context, c topics.Credentials, want auth.Claims) (token string, expires time.Time, err error) {
	token, expires, err = a.Auth.MintToken(ctx, c, want)
	a.refusals.note("tokens", c, err)
	if err == nil {
		door.Known(ctx)
	}
	return token, expires, err
}

// recheck holds every connection against the accounts of now. A relay, and the
// credentials for one, stay with who has a session then: nobody is asked about
// an identity that left, so it takes new ones when it comes back.
func (a *accounts) recheck() {
	a.broker.Recheck()
	present := sync.OnceValue(a.broker.Names) // when it is known who is asked about: who came in since has a session
	a.ice.end(func(name string) bool { return !present()[name] })
}

// run looks after the files until ctx is done.
func (a *accounts) run(ctx context.Context) {
	err := a.Auth.Run(ctx, a.recheck)
	if err != nil {
		a.Logger.Error("the files of accounts are not looked after any more: changes need a restart, or SIGHUP", "error", err)
	}
}
