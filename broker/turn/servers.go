package turn

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// Config says which ICE servers there are.
type Config struct {
	// URLs are of the kinds stun:, stuns:, turn: and turns: (RFC 7064, RFC 7065),
	// such as "turn:turn.example:3478?transport=udp".
	URLs []string

	// Secret is what the turn: and turns: servers know, too, to make credentials
	// that end; at least 16 bytes.
	Secret []byte

	// Username and Credential are for a TURN server with a fixed account, instead
	// of Secret. Every peer learns them, and they never end.
	Username, Credential string

	// TTL is how long credentials last; 10 min by default.
	TTL time.Duration

	// Server is the embedded one among them, if there is one: it is let know whom
	// credentials are told, so that it can take them back (Server.End).
	Server *Server

	Now func() time.Time // the clock; time.Now by default
}

const (
	defaultTTL = 10 * time.Minute
	minTTL     = time.Minute
	maxTTL     = 24 * time.Hour
)

// Servers are the ICE servers that peers are told of.
type Servers struct {
	Config
	stun, turn []string
}

// New checks the configuration and reports every mistake in it.
func New(c Config) (*Servers, error) {
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Servers{Config: c}
	var wrong []error
	seen := make(map[string]bool)
	for _, url := range c.URLs {
		relays, err := checkURL(url)
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case seen[url]:
			wrong = append(wrong, fmt.Errorf("%s is given twice", url))
		case relays:
			s.turn = append(s.turn, url)
		default:
			s.stun = append(s.stun, url)
		}
		seen[url] = true
	}
	wrong = append(wrong, c.checkCredentials())
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return s, nil
}

func (c Config) checkCredentials() error {
	var wrong []error
	add := func(text string) { wrong = append(wrong, errors.New(text)) }

	any := false // as long as a URL is broken: it may have been meant
	for _, url := range c.URLs {
		any = any || strings.HasPrefix(strings.ToLower(url), "turn")
	}
	fixed := c.Username != "" || c.Credential != ""
	switch {
	case fixed && len(c.Secret) > 0:
		add("there is a secret and a fixed user name, it takes one of them")
	case fixed && (c.Username == "" || c.Credential == ""):
		add("a fixed account takes both, a user name and a credential")
	case any && !fixed && len(c.Secret) == 0:
		add("a turn: URL needs the secret of the TURN server (coturn: use-auth-secret, static-auth-secret)")
	case !any && (fixed || len(c.Secret) > 0):
		add("there are credentials, but no turn: or turns: URL that they are for")
	}
	if len(c.Secret) > 0 {
		wrong = append(wrong, checkSecret(c.Secret))
	}
	if c.TTL < minTTL || c.TTL > maxTTL {
		add(fmt.Sprintf("credentials would last %v, it takes 1m to 24h", c.TTL))
	}
	return errors.Join(wrong...)
}

// ICEServers are the servers for a peer, an entry for each kind, with
// credentials that are good for ttl; 0 when there is nothing in them that ends.
// They do not outlast the identity by more than a minute.
func (s *Servers) ICEServers(id topics.Identity) (servers []topics.ICEServer, ttl time.Duration) {
	if len(s.stun) > 0 {
		servers = append(servers, topics.ICEServer{URLs: s.stun})
	}
	if len(s.turn) == 0 || !topics.ValidName(id.Name) {
		return servers, 0
	}
	entry := topics.ICEServer{URLs: s.turn, Username: s.Username, Credential: s.Credential}
	if len(s.Secret) > 0 {
		now := s.Now()
		ttl = s.TTL
		if !id.Expires.IsZero() {
			ttl = min(ttl, max(id.Expires.Sub(now), minTTL)) // a minute at least: they are renewed at three quarters
		}
		end := now.Add(ttl)
		if s.Server != nil {
			end = s.Server.ledger.tell(id.Name, end, ttl == s.TTL)
		}
		entry.Username = username(id.Name, end)
		entry.Credential = password(s.Secret, entry.Username)
	}
	return append(servers, entry), ttl
}
