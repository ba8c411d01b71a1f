package auth

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

const answered = `{"name":"alice","rooms":["garage"],"role":"viewer","peer":"cam1","ttl":60}`

func TestWebhookSaysWhoItIs(t *testing.T) {
	var got question
	p := publish(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("asked by %s with %v", r.Method, r.Header)
		}
		got = question{}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		text(answered)(w, r)
	})
	a := newAuth(t, Config{Webhook: p.URL})
	id := a.lets(topics.Credentials{Username: "alice@example.com", Password: password, Name: "client-7", Remote: elsewhere})
	if id.Name != "alice" || id.Source != byWebhook || len(id.Grants) != 1 || id.Grants[0] != (topics.Grant{Room: "garage", Role: topics.Viewer, Of: "cam1"}) || id.Expires.IsZero() {
		t.Errorf("it is %+v", id)
	}
	if want := (question{Username: "alice@example.com", Password: password, ClientID: "client-7", Address: "198.51.100.7"}); got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	a.lets(topics.Credentials{Token: planted, Remote: elsewhere})
	if want := (question{Token: planted, Address: "198.51.100.7"}); got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	if same, err := a.Recheck(id); err != nil || same.Name != "alice" {
		t.Errorf("rechecked: %+v, %v", same, err)
	}
}

func TestWebhookThatIsNoGoodLetsNobodyIn(t *testing.T) {
	elsewhere := publish(t, text(answered))
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		code  topics.Code
	}{
		"401":             {status(401), topics.Unauthorized},
		"403":             {status(403), topics.Unauthorized},
		"500":             {status(500), topics.Unavailable},
		"404":             {status(404), topics.Unavailable},
		"204":             {status(204), topics.Unavailable},
		"201 with answer": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201); text(answered)(w, r) }, topics.Unavailable},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, topics.Unavailable},
		"empty":            {text(""), topics.Unavailable},
		"HTML":             {text("<html>" + planted), topics.Unavailable},
		"a list":           {text("[" + answered + "]"), topics.Unavailable},
		"null":             {text("null"), topics.Unavailable},
		"two answers":      {text(answered + answered), topics.Unavailable},
		"cut":              {text(answered[:20]), topics.Unavailable},
		"no name":          {text(`{"rooms":["garage"]}`), topics.Unavailable},
		"a bad name":       {text(`{"name":"+","rooms":["garage"]}`), topics.Unavailable},
		"no grants":        {text(`{"name":"alice"}`), topics.Unavailable},
		"empty rooms":      {text(`{"name":"alice","rooms":[]}`), topics.Unavailable},
		"a bad role":       {text(`{"name":"alice","rooms":"r","role":"root"}`), topics.Unavailable},
		"an unknown key":   {text(`{"name":"alice","rooms":"r","superuser":true}`), topics.Unavailable},
		"a key twice":      {text(`{"name":"alice","name":"bob","rooms":"r"}`), topics.Unavailable},
		"ttl a text":       {text(`{"name":"alice","rooms":"r","ttl":"` + planted + `"}`), topics.Unavailable},
		"expired":          {text(`{"name":"alice","rooms":"r","expires":1}`), topics.Unavailable},
		"the rooms' topic": {text(`{"name":"alice","topics":["#"]}`), topics.Unavailable},
		"too deep":         {text(strings.Repeat("[", 10_000)), topics.Unavailable},
		"too long":         {text(`{"name":"alice","rooms":"r"` + strings.Repeat(" ", webhookMaxBytes) + `}`), topics.Unavailable},
		"cut connection":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, topics.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, test.serve)
			a := newAuth(t, Config{Webhook: p.URL + "/?secret=" + planted})
			err := a.refuses(byName("alice", password), test.code, "")
			if logged := strings.Contains(a.out.String(), "the webhook for logins failed"); logged != (test.code == topics.Unavailable) {
				t.Errorf("logged: %v: %s", logged, a.out)
			}
			if test.code == topics.Unavailable && !err.Code.Temporary() {
				t.Error("the error is for good")
			}
		})
	}
	if elsewhere.asked.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestWebhookThatCannotBeReachedLetsNobodyIn(t *testing.T) {
	p := publish(t, text(answered))
	p.Close()
	a := newAuth(t, Config{Webhook: strings.Replace(p.URL, "//", "//user:"+planted+"@", 1)})
	a.refuses(byName("alice", password), topics.Unavailable, "logins cannot be checked now")
}

// A transport that answers nothing stands in for the network, so that the two
// seconds are of fake time.
func TestSlowWebhookIsGivenUpAfterTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Webhook: "http://127.0.0.1:1/"})
		a.webhook.client.Transport = stuck{}
		begin := time.Now()
		a.refuses(byName("alice", password), topics.Unavailable, "logins cannot be checked now")
		if took := time.Since(begin); took != webhookTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

type stuck struct{}

func (stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestWebhookIsAskedOnceWithinTTL(t *testing.T) {
	now := newClock()
	p := publish(t, text(answered))
	a := newAuth(t, Config{Webhook: p.URL, Now: now.Now})
	alice := byName("alice", password)
	asked := func(want int64) {
		t.Helper()
		if n := p.asked.Load(); n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
	}
	a.lets(alice)
	now.pass(59 * time.Second)
	p.now(status(403))
	a.lets(alice)
	asked(1)
	a.refuses(byName("alice", password+"x"), topics.Unauthorized, "name or password wrong")
	a.refuses(byName("alic", "e"+password), topics.Unauthorized, "name or password wrong") // no two questions look alike
	other := alice
	other.Remote = netip.MustParseAddr("198.51.100.8")
	a.refuses(other, topics.Unauthorized, "name or password wrong")
	asked(4)
	now.pass(time.Second)
	a.refuses(alice, topics.Unauthorized, "name or password wrong")
	asked(5)
	p.now(text(`{"name":"alice","rooms":"r"}`)) // no ttl: not kept
	a.lets(alice)
	a.lets(alice)
	asked(7)
	p.now(text(`{"name":"alice","rooms":"r","ttl":1e300}`))
	a.refuses(alice, topics.Unavailable, "")
	p.now(text(`{"name":"alice","rooms":"r","ttl":9e15}`))
	a.lets(alice)
	now.pass(webhookMaxTTL)
	a.lets(alice)
	asked(10)
}

func TestWebhookSaysWhenTheConnectionEnds(t *testing.T) {
	now := newClock()
	end := now.Now().Add(30 * time.Second)
	data, err := json.Marshal(map[string]any{"name": "alice", "rooms": "r", "ttl": 3600, "expires": end.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	a := newAuth(t, Config{Webhook: publish(t, text(string(data))).URL, Now: now.Now})
	id := a.lets(byName("alice", password))
	if !id.Expires.Equal(end) {
		t.Errorf("it ends %v, want %v", id.Expires, end)
	}
	now.pass(30 * time.Second)
	none, err := a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "expired")
	a.refuses(byName("alice", password), topics.Unavailable, "") // not from memory
}

func TestWebhookThatDoesNotSayWhenHasOneLogInAgain(t *testing.T) {
	for name, test := range map[string]struct {
		ttl  string
		good time.Duration
	}{
		"no ttl":         {``, time.Hour},
		"a short one":    {`,"ttl":60`, time.Hour},
		"a long one":     {`,"ttl":7200`, 2 * time.Hour},
		"an endless one": {`,"ttl":9e15`, webhookMaxTTL},
	} {
		t.Run(name, func(t *testing.T) {
			now := newClock()
			p := publish(t, text(`{"name":"alice","rooms":"r"`+test.ttl+`}`))
			a := newAuth(t, Config{Webhook: p.URL, Now: now.Now})
			id := a.lets(byName("alice", password))
			if want := now.Now().Add(test.good); !id.Expires.Equal(want) {
				t.Errorf("it ends %v, want %v", id.Expires, want)
			}
			now.pass(test.good - time.Second)
			if same, err := a.Recheck(id); err != nil || !same.Expires.Equal(id.Expires) {
				t.Errorf("rechecked: %+v, %v", same, err)
			}
			now.pass(time.Second)
			none, err := a.Recheck(id)
			refused(t, none, err, topics.Unauthorized, "expired")
			p.now(status(403))
			a.refuses(byName("alice", password), topics.Unauthorized, "name or password wrong") // it was asked
		})
	}
}

func TestReloadForgetsWhatTheWebhookSaid(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	p := publish(t, text(answered))
	a := newAuth(t, Config{Webhook: p.URL})
	alice := byName("alice", password)
	a.lets(alice)
	p.now(status(403))
	a.lets(alice) // from memory
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	a.refuses(alice, topics.Unauthorized, "name or password wrong")

	// An answer that was on its way at the reload is not kept either.
	p.now(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-answer
		text(answered)(w, r)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := a.Authenticate(t.Context(), alice); err != nil {
			t.Error(err)
		}
	}()
	<-asked
	if err := a.Reload(); err != nil {
		t.Error(err)
	}
	close(answer)
	<-done
	p.now(status(403))
	a.refuses(alice, topics.Unauthorized, "name or password wrong")
}

func TestUsersFileGoesBeforeTheWebhook(t *testing.T) {
	p := publish(t, text(answered))
	a := newAuth(t, Config{Users: file(t, "users.yaml", account("cam1")), JWTKey: file(t, "key", tokenSecret), Webhook: p.URL})
	if id := a.lets(byName("cam1", password)); id.Source != byPassword {
		t.Errorf("it is %+v", id)
	}
	a.refuses(byName("cam1", "wrong"), topics.Unauthorized, "name or password wrong")
	a.refuses(topics.Credentials{Token: hs256("{}")}, topics.Unauthorized, "the token is refused")
	if p.asked.Load() > 0 {
		t.Error("the webhook was asked about an account of the file, or a token")
	}
	if id := a.lets(byName("alice", password)); id.Source != byWebhook {
		t.Errorf("it is %+v", id)
	}
	if id := a.lets(topics.Credentials{Token: "opaque"}); id.Source != byWebhook {
		t.Errorf("it is %+v", id)
	}
}

func TestWebhookDenialsCountAsFailedLogins(t *testing.T) {
	p := publish(t, status(401))
	a := newAuth(t, Config{Webhook: p.URL})
	for range 10 {
		a.refuses(byName("alice", "x"), topics.Unauthorized, "")
	}
	a.refuses(byName("alice", "x"), topics.RateLimited, "")
	if n := p.asked.Load(); n != 10 {
		t.Errorf("asked %d times", n)
	}
}

func TestUnencryptedWebhookElsewhereIsWarnedOf(t *testing.T) {
	out := newAuth(t, Config{Webhook: "http://user:" + planted + "@auth.example/x?key=" + planted}).out.String()
	if !strings.Contains(out, "unencrypted") || !strings.Contains(out, "http://auth.example/x") {
		t.Errorf("the log is %s", out)
	}
}
