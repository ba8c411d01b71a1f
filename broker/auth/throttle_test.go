package auth

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

func from(address, name, password string) topics.Credentials {
	return topics.Credentials{Username: name, Password: password, Remote: netip.MustParseAddr(address)}
}

func throttled(t *testing.T) (*subject, *clock) {
	now := newClock()
	return newAuth(t, Config{Users: file(t, "users.yaml", account("cam1")+account("cam2")), Now: now.Now}), now
}

func TestAddressThatGuessesIsStoppedBeforeAnyHash(t *testing.T) {
	threat.Row(t, 29, 0)
	a, now := throttled(t)
	for i := range 10 {
		a.refuses(from("198.51.100.7", fmt.Sprint("guess", i), "x"), topics.Unauthorized, "name or password wrong")
	}
	before := a.hasher.hashed.Load()
	err := a.refuses(from("198.51.100.7", "cam1", password), topics.RateLimited, "try again in 6 s")
	if err.RetryAfter != 6 {
		t.Errorf("RetryAfter is %v", err.RetryAfter)
	}
	a.refuses(topics.Credentials{Token: "x", Remote: netip.MustParseAddr("::ffff:198.51.100.7")}, topics.RateLimited, "")
	if a.hasher.hashed.Load() != before {
		t.Error("it was hashed all the same")
	}
	a.lets(from("198.51.100.8", "cam1", password))
	now.pass(6 * time.Second)
	a.lets(from("198.51.100.7", "cam1", password))
}

func TestNameThatIsGuessedAtIsStoppedFromAnyAddressButItsOwn(t *testing.T) {
	threat.Row(t, 29, 0)
	a, _ := throttled(t)
	a.lets(from("203.0.113.1", "cam1", password))
	for i := range 10 {
		a.refuses(from(fmt.Sprintf("198.51.100.%d", i), "cam1", "x"), topics.Unauthorized, "")
	}
	a.refuses(from("198.51.100.99", "cam1", "x"), topics.RateLimited, "")
	a.lets(from("203.0.113.1", "cam1", password)) // the camera itself is not locked out
	a.lets(from("198.51.100.99", "cam2", password))
}

func TestCameraWithAnOldPasswordDoesNotLockOutItsNeighbours(t *testing.T) {
	a, _ := throttled(t)
	a.lets(from("203.0.113.1", "cam1", password))
	for range 10 {
		a.refuses(from("203.0.113.1", "cam1", "old"), topics.Unauthorized, "")
	}
	a.refuses(from("203.0.113.1", "cam1", "old"), topics.RateLimited, "")
	a.lets(from("203.0.113.1", "cam2", password))
}

func TestLoopbackIsLeftOut(t *testing.T) {
	a, _ := throttled(t)
	for i := range 30 {
		a.refuses(from("127.0.0.1", fmt.Sprint("guess", i), "x"), topics.Unauthorized, "")
		a.refuses(from("::1", fmt.Sprint("guess", i), "x"), topics.Unauthorized, "")
	}
	a.lets(from("127.0.0.1", "cam1", password))
	for range 10 {
		a.refuses(from("127.0.0.1", "cam1", "x"), topics.Unauthorized, "")
	}
	a.refuses(from("127.0.0.1", "cam1", "x"), topics.RateLimited, "") // the name still counts
}

func TestNeighboursInAnIPv6NetworkAreOne(t *testing.T) {
	a, _ := throttled(t)
	for i := range 10 {
		a.refuses(from(fmt.Sprintf("2001:db8::%x", i), fmt.Sprint("guess", i), "x"), topics.Unauthorized, "")
	}
	a.refuses(from("2001:db8::ffff", "cam1", "x"), topics.RateLimited, "")
	a.refuses(from("2001:db8:0:1::1", "cam1", "x"), topics.Unauthorized, "")
}

func TestGuessesAtOnceCountOneByOne(t *testing.T) {
	a, now := throttled(t)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			_, _ = a.Authenticate(context.Background(), from("198.51.100.7", fmt.Sprint("guess", i), "x"))
		})
	}
	all.Wait()
	if n := int(a.hasher.hashed.Load()); n > 10+cap(a.hasher.strangers.slots) {
		t.Errorf("%d were hashed", n)
	}
	now.pass(time.Minute + time.Duration(cap(a.hasher.strangers.slots))*6*time.Second)
	a.lets(from("198.51.100.7", "cam1", password))
}

func TestGoodLoginsAndExpiredTokensDoNotCount(t *testing.T) {
	now := newClock()
	a := newAuth(t, Config{Users: file(t, "users.yaml", account("cam1")), JWTKey: file(t, "key", tokenSecret), Now: now.Now})
	old := hs256(claiming(now.Now().Add(-time.Hour)))
	for range 30 {
		a.refuses(topics.Credentials{Token: old, Remote: elsewhere}, topics.Unauthorized, "expired")
		a.lets(byName("cam1", password))
	}
	forged := old[:len(old)-8] + "AAAAAAAA"
	for range 10 {
		a.refuses(topics.Credentials{Token: forged, Remote: elsewhere}, topics.Unauthorized, "no key")
	}
	a.refuses(topics.Credentials{Token: old, Remote: elsewhere}, topics.RateLimited, "")
}

func TestNoThrottleWhereNoneIsWanted(t *testing.T) {
	a := newAuth(t, Config{Users: file(t, "users.yaml", account("cam1")), Logins: -1})
	for range 30 {
		a.refuses(byName("cam1", "x"), topics.Unauthorized, "")
	}
}

func TestThrottleForgetsTheOldest(t *testing.T) {
	now := newClock()
	th := newThrottle(10, now.Now)
	for i := range maxRecent + 100 {
		th.attempt(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "").fail()
		now.pass(time.Millisecond)
	}
	if n := len(th.addresses.order); n != maxRecent || len(th.addresses.byKey) != n {
		t.Errorf("%d are remembered", n)
	}
	if th.addresses.byKey["10.0.0.1"] != nil || th.addresses.byKey["10.0.0.200"] == nil {
		t.Error("the oldest is remembered")
	}
}

// blocked reports whether a login is held up.
func (t *throttle) blocked(address, name string) bool {
	var from netip.Addr
	if address != "" {
		from = netip.MustParseAddr(address)
	}
	return t.attempt(from, name).allowed() != nil
}

func TestFloodDoesNotFreeWhoIsHeldUp(t *testing.T) {
	now := newClock()
	th := newThrottle(10, now.Now)
	guesser := netip.MustParseAddr("198.51.100.7")
	for range 10 { // the name by one address, the address by no name
		th.attempt(netip.Addr{}, "cam1").fail()
		th.attempt(guesser, "").fail()
	}
	for i := range 3 * maxRecent { // from everywhere, under any name
		th.attempt(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), fmt.Sprint("guess", i)).fail()
	}
	if !th.blocked("", "cam1") || !th.blocked("198.51.100.7", "") {
		t.Error("who was held up is forgotten, among many that failed once")
	}
	if n, m := len(th.names.order), len(th.addresses.order); n != maxRecent || m != maxRecent {
		t.Errorf("%d names and %d addresses are remembered", n, m)
	}
}

func TestFloodOfNamesForgetsNoAddress(t *testing.T) {
	now := newClock()
	th := newThrottle(10, now.Now)
	th.attempt(elsewhere, "").fail()
	for i := range 2 * maxRecent {
		th.attempt(netip.Addr{}, fmt.Sprint("guess", i)).fail()
	}
	if th.addresses.byKey[elsewhere.String()] == nil {
		t.Error("the address is forgotten")
	}
}

func TestRecoveredCountsGoFirst(t *testing.T) {
	now := newClock()
	c := newCounts(10)
	c.most = 3
	c.fail("recovered, but the last that was used", now.Now())
	now.pass(time.Minute)
	c.fail("once", now.Now())
	for range 10 {
		c.fail("held up", now.Now())
	}
	for _, step := range []struct{ new, gone string }{{"a", "recovered, but the last that was used"}, {"b", "once"}} {
		now.pass(time.Millisecond)
		c.fail(step.new, now.Now())
		if c.byKey[step.gone] != nil || c.byKey["held up"] == nil {
			t.Errorf("%s pushed out another than %q", step.new, step.gone)
		}
	}
	for range 12 { // all are held up: the one with the least to recover goes
		c.fail("a", now.Now())
		c.fail("b", now.Now())
	}
	c.fail("c", now.Now())
	if c.byKey["held up"] != nil || c.byKey["c"] == nil {
		t.Error("one that has more to recover went")
	}
	if len(c.byKey) != 3 || len(c.order) != 3 {
		t.Errorf("%d, %d are remembered", len(c.byKey), len(c.order))
	}
	for i, n := range c.order {
		if n.at != i || c.byKey[n.key] != n {
			t.Errorf("%s is at %d, not %d", n.key, i, n.at)
		}
	}
}

func TestWhatIsNoNameIsNotCounted(t *testing.T) {
	a, _ := throttled(t)
	for i := range 30 {
		for _, name := range []string{"a b", "+", "cam1/x", "\x00", fmt.Sprint("*", i), string(make([]byte, 1000))} {
			a.refuses(from("127.0.0.1", name, "x"), topics.Unauthorized, "name or password wrong")
		}
	}
	if n := len(a.throttle.names.byKey); n > 0 {
		t.Errorf("%d names are counted", n)
	}
	for range 10 { // its address is
		a.refuses(from("198.51.100.7", "a b", "x"), topics.Unauthorized, "")
	}
	a.refuses(from("198.51.100.7", "a b", "x"), topics.RateLimited, "")
}

// The webhook can know names that no account has, and they can be guessed at.
func TestNamesOfTheWebhookAreCounted(t *testing.T) {
	p := publish(t, status(401))
	a := newAuth(t, Config{Webhook: p.URL})
	for range 10 {
		a.refuses(from("127.0.0.1", "alice@example.com", "x"), topics.Unauthorized, "")
	}
	a.refuses(from("127.0.0.1", "alice@example.com", "x"), topics.RateLimited, "")
	a.refuses(from("127.0.0.1", "bob@example.com", "x"), topics.Unauthorized, "")
	for key := range a.throttle.names.byKey {
		if len(key) > 65 {
			t.Errorf("a key has %d bytes", len(key))
		}
	}
}

// What the doc says is not protected. If this fails, say so there.
func TestStrangerLocksOutANameWhereItHasNotLoggedIn(t *testing.T) {
	a, now := throttled(t)
	guess := func(address string) {
		for i := range 10 {
			a.refuses(from(fmt.Sprintf(address, i), "cam1", "x"), topics.Unauthorized, "")
		}
	}
	guess("198.51.100.%d")
	a.refuses(from("203.0.113.1", "cam1", password), topics.RateLimited, "")
	now.pass(time.Minute)
	a.lets(from("203.0.113.1", "cam1", password))
	guess("198.51.101.%d")
	a.lets(from("203.0.113.1", "cam1", password))
	a.refuses(from("203.0.113.2", "cam1", password), topics.RateLimited, "") // it moved
	a.Auth.throttle = newThrottle(10, now.Now)                               // as after a restart
	guess("198.51.102.%d")
	a.refuses(from("203.0.113.1", "cam1", password), topics.RateLimited, "")

	now.pass(time.Minute)
	a.lets(from("127.0.0.1", "cam1", password)) // behind a proxy that counts for nothing
	for range 10 {
		a.refuses(from("127.0.0.1", "cam1", "x"), topics.Unauthorized, "")
	}
	a.refuses(from("127.0.0.1", "cam1", password), topics.RateLimited, "")
}
