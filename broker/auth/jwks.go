package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/go-jose/go-jose/v4"
)

// How a set of keys is fetched.
const (
	jwksTimeout  = 5 * time.Second
	jwksPause    = 10 * time.Second // between two fetches that unknown keys ask for
	jwksPeriod   = 5 * time.Minute  // after which Run fetches it anyway
	jwksMaxBytes = 256 << 10
	jwksMaxKeys  = 64
)

// parseJWKS reads a set of public keys (RFC 7517). Those that are for something
// else are left out, as section 5 has it.
func parseJWKS(data []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("it is not a JWK set ({\"keys\":[...]}): %s", jsonError(err))
	}
	if len(set.Keys) > jwksMaxKeys {
		return nil, fmt.Errorf("it has %d keys, it may have %d", len(set.Keys), jwksMaxKeys)
	}
	var keys []key
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil {
			continue
		}
		if usable, ok := fromJWK(k); ok {
			keys = append(keys, usable)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of its %d keys is a public one for signatures (RSA of %d bits or more, P-256, P-384, P-521, Ed25519)", len(set.Keys), minRSA)
	}
	return keys, nil
}

// fromJWK is the key for tokens that k is, if it is one. A secret key is none:
// what is published signs nothing.
func fromJWK(k jose.JSONWebKey) (key, bool) {
	if !k.IsPublic() || !k.Valid() || k.Use != "" && k.Use != "sig" {
		return key{}, false
	}
	usable, err := newKey(k.KeyID, k.Key, nil)
	if err != nil {
		return key{}, false
	}
	if alg := k.Algorithm; alg != "" && !slices.Contains(usable.algs, alg) {
		rsa := []string{"RS384", "RS512", "PS256", "PS384", "PS512"}
		if usable.algs[0] != "RS256" || !slices.Contains(rsa, alg) {
			return key{}, false
		}
		usable.algs = []string{alg}
	}
	return usable, true
}

// jwks is the set of keys at a URL: the last good one is kept.
type jwks struct {
	url    *url.URL
	client *http.Client
	last   atomic.Pointer[[]key]
	others chan struct{} // has an item when the keys are others than before

	mu      sync.Mutex // guards what follows
	tried   time.Time
	failed  error
	pending chan struct{} // closed when the fetch that is under way has ended; nil: none is
}

// isURL reports whether a setting that takes a file or a URL is a URL.
func isURL(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

func newJWKS(address string) (*jwks, error) {
	u, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" && !loopback(u.Hostname()) {
		return nil, errors.New("http is taken from this machine only; use https")
	}
	return &jwks{url: u, client: newClient(jwksTimeout), others: make(chan struct{}, 1)}, nil
}

// parseURL parses an http or https URL. Its errors don't show it, since it may
// hold a password.
func parseURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "" {
		return nil, errors.New("it is not a URL such as https://example.com/path")
	}
	return u, nil
}

// where is u as a log may show it.
func where(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// newClient makes a client that follows no redirect: it would take credentials,
// or trust, to where nobody configured them to go.
func newClient(timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.MaxConnsPerHost = 64
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// body reads the answer of u, which should be 200 and have at most limit bytes.
func body(r *http.Response, limit int64) ([]byte, error) {
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d, not 200", r.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return data, nil
}

// cause is err without the URL, which may hold a password.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// keys is the last good set.
func (j *jwks) keys() []key {
	if last := j.last.Load(); last != nil {
		return *last
	}
	return nil
}

// refresh fetches the set because of a key that is not in before, unless there
// is another already, or it was fetched a moment ago. Its error says that the
// keys are not to be had now.
func (j *jwks) refresh(ctx context.Context, now time.Time, before *[]key) error {
	j.mu.Lock()
	if j.last.Load() != before {
		j.mu.Unlock()
		return nil
	}
	if pending := j.pending; pending != nil {
		j.mu.Unlock()
		return j.await(ctx, pending)
	}
	if since := now.Sub(j.tried); !j.tried.IsZero() && since >= 0 && since < jwksPause {
		j.mu.Unlock()
		return topics.Errorf(topics.Unavailable, "the token's key is not known yet, and the keys were fetched a moment ago; try again in %.0f s", (jwksPause - since).Seconds())
	}
	done := j.begin(now)
	j.mu.Unlock()
	// Others wait for it, too: it goes on when the client that began it is gone,
	// until the timeout.
	if err := j.fetch(context.WithoutCancel(ctx), done); err != nil {
		return errNoKeys()
	}
	return nil
}

func errNoKeys() error {
	return topics.Errorf(topics.Unavailable, "the keys of tokens cannot be fetched; try again")
}

// await waits for the fetch that is under way.
func (j *jwks) await(ctx context.Context, pending <-chan struct{}) error {
	select {
	case <-pending:
	case <-ctx.Done():
		return topics.Errorf(topics.Unavailable, "the keys of tokens did not come in time; try again")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return errNoKeys()
	}
	return nil
}

// renew fetches the set because it is time to, unless a fetch is under way.
func (j *jwks) renew(ctx context.Context, now time.Time) error {
	j.mu.Lock()
	if j.pending != nil {
		j.mu.Unlock()
		return nil
	}
	done := j.begin(now)
	j.mu.Unlock()
	return j.fetch(ctx, done)
}

// begin says that a fetch is under way. The caller holds mu, lets go of it and
// fetches.
func (j *jwks) begin(now time.Time) (done chan struct{}) {
	j.pending, j.tried = make(chan struct{}), now
	return j.pending
}

func (j *jwks) fetch(ctx context.Context, done chan struct{}) error {
	keys, err := j.get(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed, j.pending = err, nil
	defer close(done)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(keys, j.keys(), func(a, b key) bool { return a.stamp == b.stamp && a.id == b.id })
	j.last.Store(&keys)
	if !same {
		select {
		case j.others <- struct{}{}:
		default: // it has not been seen to yet
		}
	}
	return nil
}

func (j *jwks) get(ctx context.Context) ([]key, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where(j.url), cause(err))
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := j.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where(j.url), cause(err))
	}
	data, err := body(answer, jwksMaxBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where(j.url), err)
	}
	keys, err := parseJWKS(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where(j.url), err)
	}
	return keys, nil
}
