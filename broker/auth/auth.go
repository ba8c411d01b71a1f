package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// Config says which credentials count. The zero value takes none.
type Config struct {
	Users string // file of accounts, YAML: see [Account]

	JWTKey      string // file with the key of tokens: a secret (HS256), or PEM (RS256, ES256, EdDSA)
	JWKS        string // file or URL of a set of such keys
	JWTIssuer   string // "iss" that a token must have; any
	JWTAudience string // "aud" that a token must have; any

	ClientCA  string // file of CAs of client certificates, PEM
	ClientCRL string // file of their CRLs: one in DER, or PEM

	Webhook string // URL that is asked about who is not in Users
	APIKeys string // file of the keys for MintToken, YAML

	// Hasher makes the process in which passwords are hashed, which calls
	// ServeHashes with its standard input and output. Nil: they are in this one.
	Hasher func() *exec.Cmd

	Logins int              // failed logins of an address, and of a name, a minute; 10, negative: no limit
	Root   topics.Root      // of the rooms, which no filter in Users may reach; "rtc"
	Logger *slog.Logger     // discards by default
	Now    func() time.Time // time.Now; for tests
}

// Configured reports whether anyone can log in with c.
func (c Config) Configured() bool {
	return c.Users != "" || c.JWTKey != "" || c.JWKS != "" || c.Webhook != ""
}

// Where an identity came from, in its Source.
const (
	byPassword    = "password"
	byCertificate = "certificate"
	byToken       = "token"
	byWebhook     = "webhook"
)

// Auth says who a client is. It is safe for use by many at once.
type Auth struct {
	Config
	state    atomic.Pointer[state]
	throttle *throttle
	hasher   *hasher
	jwks     *jwks    // nil unless JWKS is a URL
	webhook  *webhook // nil unless there is one
	secret   []byte   // stamps are made with it

	mu   sync.Mutex          // guards what follows, and changes of state
	sums map[string][32]byte // of what each part was read from
}

// state is what the files say. It is replaced as a whole.
type state struct {
	users   *users
	key     *key  // of JWTKey
	keys    []key // of JWKS, when it is a file
	trust   *trust
	apiKeys apiKeys
}

// New reads everything that c names, and reports all that is wrong in it.
func New(c Config) (*Auth, error) {
	if c.Logins == 0 {
		c.Logins = 10
	}
	if c.Root == "" {
		c.Root = topics.DefaultRoot
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &Auth{
		Config: c, throttle: newThrottle(c.Logins, c.Now), secret: []byte(rand.Text()),
		sums: make(map[string][32]byte),
	}
	if c.Hasher == nil {
		a.hasher = newHasher(nil)
	} else {
		a.hasher = newHasher(&aside{command: c.Hasher, log: c.Logger})
	}
	wrong := []error{c.check()}
	var err error
	if isURL(c.JWKS) {
		if a.jwks, err = newJWKS(c.JWKS); err != nil {
			wrong = append(wrong, fmt.Errorf("--jwks: %w", err))
		}
	}
	if c.Webhook != "" {
		if a.webhook, err = newWebhook(c.Webhook, c.Root, c.Now, c.Logger); err != nil {
			wrong = append(wrong, fmt.Errorf("--auth-url: %w", err))
		}
	}
	a.state.Store(new(state))
	_, err = a.reload()
	wrong = append(wrong, err)
	if s := a.state.Load(); c.APIKeys != "" && (c.JWTKey == "" || s.key != nil && s.key.sign == nil) {
		wrong = append(wrong, errors.New("--api-key has tokens made, which takes --jwt-key with a secret or a private key"))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return a, nil
}

// check says what of c does not go together.
func (c Config) check() error {
	var wrong []error
	tokens := c.JWTKey != "" || c.JWKS != ""
	refuse := func(when bool, what string) {
		if when {
			wrong = append(wrong, errors.New(what))
		}
	}
	refuse(c.JWTIssuer != "" && !tokens, "--jwt-issuer is set, but no key of tokens; set --jwt-key or --jwks")
	refuse(c.JWTAudience != "" && !tokens, "--jwt-audience is set, but no key of tokens; set --jwt-key or --jwks")
	refuse(c.ClientCA != "" && c.Users == "", "--client-ca is set, but no --users, where the grants of who has a certificate stand; set it")
	refuse(c.ClientCRL != "" && c.ClientCA == "", "--client-crl is set, but no --client-ca, whose certificates it revokes; set it")
	refuse(c.JWKS != "" && c.JWKS == c.JWTKey, "--jwks is the file of --jwt-key; name a set of public keys, or leave it out")
	refuse(c.Users != "" && c.Users == c.APIKeys, "--users and --api-key are the same file; take a file for each")
	if err := c.Root.Check(); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// login is an attempt to log in: what was shown, sorted, and the state that it
// is held against.
type login struct {
	topics.Credentials
	*state
	*attempt
	token    string // bearer, or the password where that is a token
	password string // if it is none
}

// errWrong is all that who fails learns: unknown and wrong are one.
func errWrong() error { return topics.Errorf(topics.Unauthorized, "name or password wrong") }

// Authenticate says who showed c. The first of these that is shown and
// configured decides: client certificate, token, account of the users file,
// webhook. All else that is shown must be good and of the same name. Its errors
// are of type [*topics.Error] and for the client to see.
func (a *Auth) Authenticate(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
	l := &login{Credentials: c, state: a.state.Load(), password: c.Password, token: c.Token}
	if l.token == "" && a.takesTokens() && looksLikeToken(c.Password) {
		l.token, l.password = c.Password, ""
	}
	if len(c.Username) > maxPassword || len(l.password) > maxPassword {
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "a user name or password has at most %d bytes", maxPassword)
	}
	if len(l.token) > maxToken {
		return topics.Identity{}, tokenError("it has %d bytes, it may have %d", len(l.token), maxToken)
	}
	if len(c.TLS) == 0 && l.token == "" && (c.Username == "" || l.password == "") {
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "credentials are missing: show a user name and password, a token, or a client certificate")
	}
	claimed := ""
	if l.password != "" {
		claimed = a.countable(c.Username)
	}
	l.attempt = a.throttle.attempt(c.Remote, claimed)
	if err := l.allowed(); err != nil {
		return topics.Identity{}, err
	}
	id, err := a.identify(ctx, l)
	if err == nil {
		err = a.current(id)
	}
	if err != nil {
		return topics.Identity{}, err
	}
	if l.password != "" {
		l.succeed()
	}
	return id, nil
}

// countable is the name under which a login with a password counts, "" for none.
// What no account can be called is refused without a look and takes no room in
// the throttle. A webhook may know it, though: alice@example.com, say.
func (a *Auth) countable(name string) string {
	switch {
	case topics.ValidName(name):
		return name
	case a.webhook == nil || name == "":
		return ""
	}
	sum := sha256.Sum256([]byte(name)) // it may be long
	return "#" + hex.EncodeToString(sum[:])
}

func (a *Auth) takesTokens() bool { return a.JWTKey != "" || a.JWKS != "" }

func (a *Auth) identify(ctx context.Context, l *login) (topics.Identity, error) {
	switch {
	case len(l.TLS) > 0:
		return a.certificate(ctx, l)
	case l.token != "" && a.takesTokens() && (a.webhook == nil || looksLikeToken(l.token)):
		p, err := a.checkToken(ctx, l)
		if err != nil {
			return topics.Identity{}, err
		}
		if l.Username != "" && l.Username != p.sub {
			return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the token is of %s, the user name is another; leave it out", p.sub)
		}
		if l.password != "" {
			if _, err := a.checkPassword(ctx, l, p.sub); err != nil {
				return topics.Identity{}, err
			}
		}
		return p.identity(), nil
	case l.token != "" && a.webhook == nil:
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "tokens are not taken here")
	case l.token == "" && (a.webhook == nil || l.users.user(l.Username) != nil):
		u, err := a.checkPassword(ctx, l, l.Username)
		if err != nil {
			return topics.Identity{}, err
		}
		return u.identity(byPassword, u.stamp), nil
	default:
		id, denied, err := a.webhook.ask(ctx, l.Credentials)
		if denied {
			l.fail()
			return topics.Identity{}, errWrong()
		}
		return id, err
	}
}

// checkToken checks the token that was shown.
func (a *Auth) checkToken(ctx context.Context, l *login) (*proven, error) {
	if !a.takesTokens() {
		return nil, topics.Errorf(topics.Unauthorized, "tokens are not taken here")
	}
	p, guess, err := a.verifyToken(ctx, l.token)
	if guess {
		l.fail()
	}
	return p, err
}

// checkPassword checks the password that was shown against the account name. It
// takes as long for one that there is not, or that has no password.
func (a *Auth) checkPassword(ctx context.Context, l *login, name string) (*user, error) {
	if l.users == nil || !topics.ValidName(name) {
		l.fail()
		return nil, errWrong()
	}
	u, h := l.users.user(name), l.users.nobody
	exists := u != nil && u.Password != ""
	if exists {
		h = u.hash
	}
	ok, err := a.hasher.verify(ctx, h, l.password, l.attempt)
	if err != nil {
		return nil, err
	}
	if !ok || !exists {
		l.fail()
		return nil, errWrong()
	}
	return u, nil
}

// Refresh says who old is after it showed c on its connection: the same name, or
// the credentials don't count.
func (a *Auth) Refresh(ctx context.Context, old topics.Identity, c topics.Credentials) (topics.Identity, error) {
	id, err := a.Authenticate(ctx, c)
	if err != nil {
		return topics.Identity{}, err
	}
	if id.Name != old.Name {
		return topics.Identity{}, topics.Errorf(topics.Forbidden, "this connection is %s, the new credentials are of %s; open another connection for them", old.Name, id.Name)
	}
	return id, nil
}

// Recheck says what id may now, after a reload: the grants of its account as
// they are, or an error (401) if the account is gone, its password or key is
// another, its certificate was revoked, or its time is up. A guest may what its
// account may: nothing (403) once that may not talk with its peer any more.
func (a *Auth) Recheck(id topics.Identity) (topics.Identity, error) {
	if id.Account != "" && len(id.Grants) == 1 {
		host := id
		host.Name, host.Account = id.Account, ""
		host, err := a.Recheck(host)
		if err != nil {
			return topics.Identity{}, err
		}
		return host.Guest(id.Name, id.Grants[0].Room, id.Grants[0].Of)
	}
	if err := a.current(id); err != nil {
		return topics.Identity{}, err
	}
	s := a.state.Load()
	switch id.Source {
	case byPassword, byCertificate:
		u := s.users.user(id.Name)
		if u == nil {
			return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the account %s was taken away", id.Name)
		}
		if id.Source == byPassword && u.stamp != id.Stamp {
			return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the password of %s was changed", id.Name)
		}
		if id.Source == byCertificate {
			if err := s.trust.recheck(id.Stamp); err != nil {
				return topics.Identity{}, err
			}
		}
		now := u.identity(id.Source, id.Stamp)
		now.Expires = id.Expires
		return now, nil
	case byToken:
		if !slices.ContainsFunc(a.keys(), func(k key) bool { return k.stamp == id.Stamp }) {
			return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the key that signed the token is not trusted here any more")
		}
	case byWebhook:
		// No file knows it, and what it logged in with is not kept to ask again. Its
		// Expires, which is never zero, has it log in again.
	}
	return id, nil
}

// current says whether the time of id is up.
func (a *Auth) current(id topics.Identity) error {
	if !id.Expires.IsZero() && !a.Now().Before(id.Expires) {
		return topics.Errorf(topics.Unauthorized, "the credentials of %s have expired", id.Name)
	}
	return nil
}

// keys are all by which tokens are checked now.
func (a *Auth) keys() []key {
	s := a.state.Load()
	keys := slices.Clone(s.keys)
	if s.key != nil {
		keys = append(keys, *s.key)
	}
	if a.jwks != nil {
		keys = append(keys, a.jwks.keys()...)
	}
	return keys
}

// stampOf is a text by which a recheck tells that secret is the same, and that
// tells nothing of it.
func (a *Auth) stampOf(secret string) string {
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte(secret))
	return hex.EncodeToString(mac.Sum(nil)[:12])
}

// Close lets go of connections to the webhook and the set of keys, and ends the
// process that hashes. Run ends by its context.
func (a *Auth) Close() error {
	if a.hasher.aside != nil {
		a.hasher.aside.close()
	}
	if a.jwks != nil {
		a.jwks.client.CloseIdleConnections()
	}
	if a.webhook != nil {
		a.webhook.client.CloseIdleConnections()
	}
	return nil
}
