package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// part is what comes from one setting.
type part struct {
	setting string
	files   []string
	load    func(*state, [][]byte) error // puts what the files hold into the state
	limit   int64
}

// parts are those that are configured.
func (a *Auth) parts() []part {
	var parts []part
	add := func(p part) {
		if p.files[0] != "" {
			parts = append(parts, p)
		}
	}
	add(part{"--users", []string{a.Users}, a.loadUsers, maxUsers})
	add(part{"--jwt-key", []string{a.JWTKey}, a.loadKey, maxKeys})
	if !isURL(a.JWKS) {
		add(part{"--jwks", []string{a.JWKS}, a.loadJWKS, maxKeys})
	}
	cas := part{"--client-ca", []string{a.ClientCA}, a.loadTrust, maxCRL}
	if a.ClientCRL != "" {
		cas.files = append(cas.files, a.ClientCRL)
	}
	add(cas)
	add(part{"--api-key", []string{a.APIKeys}, a.loadAPIKeys, maxUsers})
	return parts
}

func (a *Auth) loadUsers(s *state, data [][]byte) error {
	u, err := parseUsers(a.Users, data[0], a.Root, a.ClientCA != "")
	if err != nil {
		return err
	}
	for _, account := range u.byName {
		account.stamp = a.stampOf(account.Password)
	}
	warnReadable(a.Logger, a.Users)
	u.warn(a.Logger, a.Users)
	s.users = u
	return nil
}

func (a *Auth) loadKey(s *state, data [][]byte) error {
	k, err := parseKey(data[0])
	if err != nil {
		return fmt.Errorf("%s: %w", a.JWTKey, err)
	}
	if a.APIKeys != "" && k.sign == nil && s.key != nil { // at the first load New says so
		return fmt.Errorf("%s: it is a public key, with which --api-key cannot have tokens made; give it a secret or a private key", a.JWTKey)
	}
	if k.sign != nil {
		warnReadable(a.Logger, a.JWTKey)
	}
	s.key = &k
	return nil
}

func (a *Auth) loadJWKS(s *state, data [][]byte) error {
	keys, err := parseJWKS(data[0])
	if err != nil {
		return fmt.Errorf("%s: %w", a.JWKS, err)
	}
	s.keys = keys
	return nil
}

func (a *Auth) loadTrust(s *state, data [][]byte) error {
	var crl []byte
	if len(data) > 1 {
		crl = data[1]
	}
	t, unchecked, err := newTrust(a.ClientCA, data[0], a.ClientCRL, crl)
	if err != nil {
		return err
	}
	for _, ca := range unchecked {
		a.Logger.Warn("a CA has no CRL: its certificates are taken, revoked or not", "ca", ca.Subject.String(), "file", a.ClientCRL)
	}
	if !t.stale.IsZero() && a.Now().After(t.stale) {
		t.warned.Store(true)
		a.Logger.Warn("a CRL is out of date: certificates that were revoked since are taken; get a new one", "file", a.ClientCRL, "until", t.stale)
	}
	s.trust = t
	return nil
}

func (a *Auth) loadAPIKeys(s *state, data [][]byte) error {
	keys, err := parseAPIKeys(a.APIKeys, data[0])
	if err != nil {
		return err
	}
	warnReadable(a.Logger, a.APIKeys)
	s.apiKeys = keys
	return nil
}

// Reload reads the files again. Where one is wrong, what it said before stays in
// force, and the error says so; the others count. Whoever called it rechecks the
// connections then, whatever the error. What the webhook said is forgotten.
func (a *Auth) Reload() error {
	_, err := a.reload()
	return staying(err)
}

func staying(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("what is wrong was not loaded, what was there before stays in force: %w", err)
}

func (a *Auth) reload() (changed bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.webhook != nil {
		a.webhook.forget()
	}
	next := *a.state.Load()
	var wrong []error
	for _, p := range a.parts() {
		data, sum, err := p.read()
		if err == nil && sum != a.sums[p.setting] {
			if err = p.load(&next, data); err == nil {
				a.sums[p.setting] = sum
				changed = true
			}
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", p.setting, err))
		}
	}
	if changed {
		a.state.Store(&next)
	}
	return changed, errors.Join(wrong...)
}

// read reads the files of p, and sums them up.
func (p part) read() (data [][]byte, sum [32]byte, err error) {
	hash := sha256.New()
	var wrong []error
	for _, file := range p.files {
		content, err := readFile(file, p.limit)
		if err != nil {
			wrong = append(wrong, err)
		}
		data = append(data, content)
		fmt.Fprintf(hash, "%d ", len(content))
		hash.Write(content)
	}
	return data, [32]byte(hash.Sum(nil)), errors.Join(wrong...)
}

// How Run looks after the files.
const (
	settle     = 100 * time.Millisecond // from the last sign of a change to a look, and between two looks
	settleMost = 500 * time.Millisecond // from the first sign to the first look, whatever goes on in the folder
	growMost   = 5 * time.Second        // from the first sign to reading, however the files still change
	look       = 10 * time.Second       // between looks, for file systems that tell nothing
	lookOften  = time.Second            // when nothing at all tells
)

// settling says when files that were changed are read: not before nothing has
// been heard for a while, and they look the same twice, so that one that is
// written in place, bit by bit, is not taken for whole. A writer that pauses for
// longer than the two looks take is not seen through: a rename is for that.
type settling struct {
	first, due time.Time // of the first sign; of the next look, zero for none
	last       fingerprints
}

// sign takes note of a sign of a change.
func (s *settling) sign(now time.Time) {
	switch {
	case s.due.IsZero():
		s.first, s.due = now, now.Add(settle)
	case now.Add(settle).Before(s.first.Add(settleMost)):
		s.due = now.Add(settle)
	}
}

// looked takes note of what the files look like, and says whether to read them.
func (s *settling) looked(now time.Time, files fingerprints) bool {
	steady := files.same(s.last)
	s.last = files
	if !steady && now.Sub(s.first) < growMost {
		s.due = now.Add(settle)
		return false
	}
	s.due = time.Time{}
	return true
}

// Run reloads the files when they change, and the set of keys from time to
// time, until ctx ends. After each change it calls changed, which should
// recheck the connections. What goes wrong is logged.
func (a *Auth) Run(ctx context.Context, changed func()) error {
	w := a.watch()
	defer w.close()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	var others <-chan struct{}
	if a.jwks != nil {
		others = a.jwks.others
		// On its own, so that a server of keys that hangs delays no reload.
		var fetching sync.WaitGroup
		defer fetching.Wait()
		fetching.Go(func() { a.fetchKeys(ctx) })
	}
	seen := fingerprints{} // so that the first look reads: a file may have changed since New
	changing := settling{last: w.look(a.parts())}
	due := time.NewTimer(settle)
	defer due.Stop()
	sign := func() {
		changing.sign(time.Now())
		due.Reset(time.Until(changing.due))
	}
	sign()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.events:
			if !ok {
				return errors.New("watching files ended")
			}
			sign()
		case err := <-w.errors:
			a.Logger.Warn("watching files failed", "error", err)
			sign()
		case <-due.C:
			now := w.look(a.parts())
			switch {
			case !changing.looked(time.Now(), now):
				due.Reset(settle)
			case !now.same(seen):
				seen = now
				a.reloadAndTell(changed)
			}
		case <-tick.C:
			if changing.due.IsZero() {
				if now := w.look(a.parts()); !now.same(seen) {
					changing.last = now
					sign()
				}
			}
		case <-others: // whoever fetched them
			changed()
		}
	}
}

func (a *Auth) reloadAndTell(changed func()) {
	some, err := a.reload()
	if err != nil {
		a.Logger.Error("reload failed", "error", staying(err))
	}
	if some {
		a.Logger.Info("reloaded")
		changed()
	}
}

// fetchKeys fetches the set of keys at once and then from time to time.
func (a *Auth) fetchKeys(ctx context.Context) {
	tick := time.NewTicker(jwksPeriod)
	defer tick.Stop()
	for {
		if err := a.jwks.renew(ctx, a.Now()); err != nil && ctx.Err() == nil {
			a.Logger.Error("the keys of tokens cannot be fetched; the last ones stay in force", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watcher watches the folders of the files, so that a file that is replaced as a
// whole, by a rename or by a link that points elsewhere (as Kubernetes does), is
// seen.
type watcher struct {
	*fsnotify.Watcher
	events  <-chan fsnotify.Event
	errors  <-chan error
	every   time.Duration
	folders []string
}

func (a *Auth) watch() *watcher {
	w := &watcher{every: look}
	var err error
	if w.Watcher, err = fsnotify.NewWatcher(); err != nil {
		a.Logger.Warn("files cannot be watched, so they are looked at every second", "error", err)
		w.Watcher, w.every = nil, lookOften
		return w
	}
	w.events, w.errors = w.Events, w.Errors
	return w
}

func (w *watcher) close() {
	if w.Watcher != nil {
		_ = w.Close()
	}
}

// look returns what the files look like, and watches the folders that they are
// in, and those that links on the way lead to.
func (w *watcher) look(parts []part) fingerprints {
	var folders, files []string
	for _, p := range parts {
		for _, file := range p.files {
			files = append(files, file)
			folders = append(folders, filepath.Dir(file))
			if real, err := filepath.EvalSymlinks(file); err == nil {
				folders = append(folders, filepath.Dir(real))
			}
		}
	}
	if w.Watcher != nil { // before looking, so that no change falls between
		for _, folder := range folders {
			if !slices.Contains(w.folders, folder) {
				_ = w.Add(folder) // one that is not there comes with a later look
			}
		}
		w.folders = w.WatchList() // those that were removed are not among them
	}
	now := fingerprints{}
	for _, file := range files {
		now[file], _ = os.Stat(file)
	}
	return now
}

// fingerprints tell, without reading, whether files are as they were.
type fingerprints map[string]fs.FileInfo

func (f fingerprints) same(g fingerprints) bool {
	for file, a := range f {
		b, ok := g[file]
		switch {
		case !ok || (a == nil) != (b == nil):
			return false
		case a == nil:
		case !os.SameFile(a, b) || a.Size() != b.Size() || a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()):
			return false
		}
	}
	return true
}
