package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"go.yaml.in/yaml/v3"
)

// What the webhook may take, and how long its answer counts.
const (
	webhookTimeout  = 2 * time.Second
	webhookMaxBytes = 64 << 10
	webhookMaxTTL   = 24 * time.Hour
	webhookGood     = time.Hour // an answer that does not say how long, and has no longer ttl
	webhookAtOnce   = 64
)

// webhook asks a program of the operator who a client is.
type webhook struct {
	url    *url.URL
	root   topics.Root
	client *http.Client
	slots  chan struct{}
	secret []byte // keys of the cache are made with it, so that they tell nothing
	cache  atomic.Pointer[recent[answer]]
	now    func() time.Time
	log    *slog.Logger
}

type answer struct {
	id    topics.Identity
	until time.Time
}

func newWebhook(address string, root topics.Root, now func() time.Time, log *slog.Logger) (*webhook, error) {
	u, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" && !loopback(u.Hostname()) {
		log.Warn("passwords go to the webhook unencrypted; use https unless the network between is yours alone", "url", where(u))
	}
	w := &webhook{
		url: u, root: root, client: newClient(webhookTimeout), slots: make(chan struct{}, webhookAtOnce),
		secret: []byte(rand.Text()), now: now, log: log,
	}
	w.forget()
	return w, nil
}

// forget drops all answers, those too that are on their way: they may be of
// before whatever made the operator want this.
func (w *webhook) forget() { w.cache.Store(newRecent[answer]()) }

// question is what the webhook is asked.
type question struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`
	ClientID string `json:"clientId,omitempty"`
	Address  string `json:"address,omitempty"`
}

// ask returns who the client is. denied says that the webhook knows it is
// nobody; other errors say that nothing is known.
func (w *webhook) ask(ctx context.Context, c topics.Credentials) (id topics.Identity, denied bool, err error) {
	q := question{Username: c.Username, Password: c.Password, Token: c.Token, ClientID: c.Name}
	if c.Remote.IsValid() {
		q.Address = c.Remote.Unmap().String()
	}
	text, err := json.Marshal(q)
	if err != nil {
		return topics.Identity{}, false, err
	}
	mac := hmac.New(sha256.New, w.secret)
	mac.Write(text)
	key := string(mac.Sum(nil))
	cache := w.cache.Load()
	if a, ok := cache.get(key); ok {
		if w.now().Before(a.until) {
			return a.id, false, nil
		}
		cache.remove(key)
	}
	a, denied, err := w.post(ctx, text)
	switch {
	case denied:
		return topics.Identity{}, true, nil
	case err != nil:
		w.log.Error("the webhook for logins failed: nobody whom only it knows can log in", "url", where(w.url), "error", err)
		return topics.Identity{}, false, topics.Errorf(topics.Unavailable, "logins cannot be checked now; try again")
	}
	if w.now().Before(a.until) {
		cache.put(key, func(answer) answer { return a })
	}
	return a.id, false, nil
}

func (w *webhook) post(ctx context.Context, question []byte) (a answer, denied bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return a, false, fmt.Errorf("%d questions wait for their answers already", webhookAtOnce)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(question))
	if err != nil {
		return a, false, cause(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	got, err := w.client.Do(r)
	if err != nil {
		return a, false, cause(err)
	}
	if got.StatusCode == http.StatusUnauthorized || got.StatusCode == http.StatusForbidden {
		return a, true, got.Body.Close()
	}
	data, err := body(got, webhookMaxBytes)
	if err != nil {
		return a, false, err
	}
	a, err = w.parse(data)
	return a, false, err
}

// parse reads an answer: an account, as the users file has it, in JSON, and
//
//	"ttl": 60             seconds for which the same question is not asked again
//	"expires": 1767225600 Unix seconds when the connection ends; left out: an hour
//	                      after the answer, or when ttl is over if that is later
//
// So who came in by the webhook always has to log in again some time, and it is
// asked again: it cannot say by itself that somebody is out.
func (w *webhook) parse(data []byte) (answer, error) {
	d := &document{name: "its answer"}
	n := d.json(data)
	if n == nil {
		return answer{}, d.err()
	}
	const what = "the account"
	var got Account
	var g grantReader
	var a answer
	var expires time.Time
	known := got.fields(d, what, w.root, &g)
	known["ttl"] = func(n *yaml.Node) {
		if date := d.claimDate(n, "ttl"); date != nil {
			a.until = w.now().Add(min(time.Duration(min(date.Unix(), 1<<32))*time.Second, webhookMaxTTL))
		}
	}
	known["expires"] = func(n *yaml.Node) {
		if date := d.claimDate(n, "expires"); date != nil {
			expires = date.Time
		}
	}
	if d.mapping(n, what, known) {
		got.Grants = g.grants(d, what)
		switch {
		case len(d.wrong) > 0:
		case got.Name == "":
			d.mistake(n, "%s has no name", what)
		case len(got.Grants)+len(got.Publish)+len(got.Subscribe) == 0:
			d.mistake(n, "%s may do nothing; answer 403 instead", what)
		case !expires.IsZero() && !expires.After(w.now()):
			d.mistake(n, "%s has expired; answer 401 instead", what)
		}
	}
	a.id = got.identity(byWebhook, "")
	a.id.Expires = expires
	if expires.IsZero() {
		a.id.Expires = w.now().Add(webhookGood)
		if a.until.After(a.id.Expires) {
			a.id.Expires = a.until
		}
	}
	if !expires.IsZero() && expires.Before(a.until) {
		a.until = expires
	}
	return a, d.err()
}
