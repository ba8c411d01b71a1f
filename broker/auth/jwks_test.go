package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/go-jose/go-jose/v4"
)

// publisher is a server that publishes keys.
type publisher struct {
	*httptest.Server
	asked atomic.Int64
	mu    sync.Mutex
	serve http.HandlerFunc
}

func publish(t *testing.T, serve http.HandlerFunc) *publisher {
	p := &publisher{serve: serve}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		serve := p.serve
		p.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) now(serve http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serve = serve
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// keySet makes a set of one new key, and a function that signs with it.
func keySet(t *testing.T, kid string) (set string, sign func(claims string) topics.Credentials) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.Public(), KeyID: kid}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(data), func(claims string) topics.Credentials {
		return topics.Credentials{Token: forge(`{"alg":"ES256","kid":"`+kid+`"}`, claims, "ES256", k)}
	}
}

func TestUnknownKeyIsFetchedButNotTooOften(t *testing.T) {
	now := newClock()
	first, byFirst := keySet(t, "k1")
	second, bySecond := keySet(t, "k2")
	p := publish(t, text(first))
	a := newAuth(t, Config{JWKS: p.URL, Now: now.Now})
	claims := claiming(now.Now())
	id := a.lets(byFirst(claims))
	a.lets(byFirst(claims))
	if n := p.asked.Load(); n != 1 {
		t.Errorf("asked %d times for a key that is known", n)
	}
	p.now(text(second))
	for range 20 {
		a.refuses(bySecond(claims), topics.Unavailable, "try again in 10 s")
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("asked %d times within 10 s", n)
	}
	now.pass(10 * time.Second)
	a.lets(bySecond(claims))
	none, err := a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "not trusted here any more")
	now.pass(10 * time.Second)
	a.refuses(byFirst(claims), topics.Unauthorized, "algorithm and key id")
}

func TestLastGoodKeysStayWhenTheyCannotBeFetched(t *testing.T) {
	set, sign := keySet(t, "k1")
	elsewhere := publish(t, text(set))
	claims := claiming(newClock().Now())
	for name, broken := range map[string]http.HandlerFunc{
		"500":       status(500),
		"not JSON":  text("<html>"),
		"no keys":   text(`{"keys":[]}`),
		"too large": text(`{"keys":[` + strings.Repeat(" ", jwksMaxBytes) + `]}`),
		"redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			now := newClock()
			p := publish(t, broken)
			a := newAuth(t, Config{JWKS: p.URL, Now: now.Now})
			a.refuses(sign(claims), topics.Unavailable, "cannot be fetched")
			p.now(text(set))
			now.pass(10 * time.Second)
			a.lets(sign(claims))
			p.now(broken)
			if err := a.jwks.renew(context.Background(), now.Now()); err == nil {
				t.Error("the broken set was taken")
			}
			a.lets(sign(claims))
		})
	}
	if elsewhere.asked.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestManyUnknownKeysAtOnceAreOneFetch(t *testing.T) {
	set, sign := keySet(t, "k1")
	arrived, free := make(chan struct{}), make(chan struct{})
	p := publish(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived) // panics if there are two
		<-free
		text(set)(w, r)
	})
	a := newAuth(t, Config{JWKS: p.URL})
	c := sign(claiming(time.Now()))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			// Who comes too late for the fetch may still come in time for its keys.
			if _, err := a.Authenticate(context.Background(), c); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
	<-arrived
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := a.Authenticate(gone, c)
	refused(t, topics.Identity{}, err, topics.Unavailable, "did not come in time")
	close(free)
	all.Wait()
}

func TestKeysAreFetchedOverHTTPSOnly(t *testing.T) {
	for _, address := range []string{"http://example.com/jwks", "http://10.0.0.1/jwks", "https://", "http://localhost.evil.example/", "http://user:" + planted + "@example.com/"} {
		_, err := New(Config{JWKS: address})
		if err == nil {
			t.Errorf("%s was taken", address)
			continue
		}
		noSecrets(t, err.Error())
	}
	for _, address := range []string{"https://example.com/jwks", "http://127.0.0.1:1/jwks", "http://[::1]:1/", "http://localhost/jwks"} {
		newAuth(t, Config{JWKS: address})
	}
}

func TestErrorsOfFetchingHideTheURL(t *testing.T) {
	p := publish(t, text("{}"))
	p.Close()
	address := strings.Replace(p.URL, "//", "//user:"+planted+"@", 1) + "/keys?secret=" + planted
	a := newAuth(t, Config{JWKS: address})
	_, err := a.jwks.get(context.Background())
	if err == nil || errors.Unwrap(err) == nil {
		t.Fatal(err)
	}
	noSecrets(t, err.Error())
	if !strings.Contains(err.Error(), "/keys") {
		t.Errorf("it does not say where: %v", err)
	}
}
