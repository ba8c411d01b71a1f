package auth

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func from(address, name, password string) topics.Credentials {
	return topics.Credentials{Username: name, Password: password, Remote: netip.MustParseAddr(address)}
}

func throttled(t *testing.T) (*subject, *clock) {
	now := newClock()
	return newAuth(t, Config{Users: file(t, "users.yaml", account("cam1")+account("cam2")), Now: now.Now}), now
}

func TestAddressThatGuessesIsStoppedBeforeAnyHash(t *testing.T) {
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
	if n := int(a.hasher.hashed.Load()); n > 10+cap(a.hasher.slots) {
		t.Errorf("%d were hashed", n)
	}
	now.pass(time.Minute + time.Duration(cap(a.hasher.slots))*6*time.Second)
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
	}
	if n := th.failed.order.Len(); n != maxRecent || len(th.failed.values) != n {
		t.Errorf("%d are remembered", n)
	}
	if _, ok := th.failed.get("address 10.0.0.1"); ok {
		t.Error("the oldest is remembered")
	}
}
