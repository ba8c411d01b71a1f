package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// pair is a certificate and its key in files that may change: a handshake looks
// at them, at most once a second. Where they are broken the ones before stay.
type pair struct {
	certFile, keyFile string
	log               *slog.Logger
	good              atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // guards what follows
	looked time.Time
	seen   [sha256.Size]byte // what the files held
	err    error             // what is wrong with that
}

const betweenLooks = time.Second

func newPair(certFile, keyFile string, log *slog.Logger) (*pair, error) {
	p := &pair{certFile: certFile, keyFile: keyFile, log: log, looked: time.Now()}
	p.look()
	return p, p.err
}

// GetCertificate is for a [tls.Config].
func (p *pair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p.mu.TryLock() { // one looks, the others take what there is
		defer p.mu.Unlock()
		if now := time.Now(); now.Sub(p.looked) >= betweenLooks {
			p.looked = now
			if p.look() && p.err != nil {
				p.log.Error("the certificate was not loaded, the one before stays in force", "error", p.err)
			}
		}
	}
	return p.good.Load(), nil
}

// reload looks at the files now, and says what is wrong with them.
func (p *pair) reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	if p.err != nil {
		return fmt.Errorf("the certificate was not loaded, the one before stays in force: %w", p.err)
	}
	return nil
}

// look reads the files, and takes what they hold if it is another, and good.
func (p *pair) look() (changed bool) {
	cert, certErr := os.ReadFile(p.certFile)
	key, keyErr := os.ReadFile(p.keyFile)
	err := errors.Join(prefix("--tls-cert", certErr), prefix("--tls-key", keyErr))
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %v\n%s%s", len(cert), len(key), err, cert, key))
	if sum == p.seen {
		return false
	}
	p.seen = sum
	if p.err = err; err != nil {
		return true
	}
	loaded, err := tls.X509KeyPair(cert, key)
	if err != nil {
		p.err = fmt.Errorf("--tls-cert %s and --tls-key %s do not make a pair: %w", p.certFile, p.keyFile, err)
		return true
	}
	if p.good.Swap(&loaded) != nil {
		p.log.Info("the certificate was loaded anew", "until", loaded.Leaf.NotAfter)
	}
	if now := time.Now(); now.After(loaded.Leaf.NotAfter) || now.Before(loaded.Leaf.NotBefore) {
		p.log.Warn("the certificate is not valid now, so most clients will refuse it", "from", loaded.Leaf.NotBefore, "until", loaded.Leaf.NotAfter)
	}
	return true
}

func prefix(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", flag, err)
}
