package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/acme/autocert"
)

// acmeCertificates come from Let's Encrypt (RFC 8555), and are renewed by
// themselves. It asks back by TLS-ALPN-01 on any listener that port 443 leads
// to, and by HTTP-01 on port 80.
type acmeCertificates struct {
	life    context.Context
	manager *autocert.Manager
	domains []string
	log     *slog.Logger
}

// newACME asks for nothing yet. When life ends nothing waits any more.
func newACME(life context.Context, domains []string, cache string, log *slog.Logger) (*acmeCertificates, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, fmt.Errorf("--acme-cache: %w", err)
	}
	probe, err := os.CreateTemp(cache, ".beckon-*") // autocert would lose what it cannot keep, without a word
	if err != nil {
		return nil, fmt.Errorf("--acme-cache: %w", err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return nil, fmt.Errorf("--acme-cache: %w", err)
	}
	return &acmeCertificates{
		life: life, domains: domains, log: log,
		manager: &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(cache),
			HostPolicy: autocert.HostWhitelist(domains...),
		},
	}, nil
}

// GetCertificate is for a [tls.Config]. Who names no server, as small MQTT
// clients do, means the first domain.
func (a *acmeCertificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.get(a.life, hello)
}

// get waits no longer than ctx.
func (a *acmeCertificates) get(ctx context.Context, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	named := *hello
	if named.ServerName == "" {
		named.ServerName = a.domains[0]
	}
	type answer struct {
		certificate *tls.Certificate
		err         error
	}
	got := make(chan answer, 1)
	go func() { // nobody waits for it when ctx ends: autocert takes up to 5 minutes, and no context
		c, err := a.manager.GetCertificate(&named)
		got <- answer{c, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case g := <-got:
		if g.err != nil && slices.Contains(a.domains, strings.ToLower(named.ServerName)) {
			a.log.Warn("there is no certificate for a domain", "domain", named.ServerName, "error", g.err)
		}
		return g.certificate, g.err
	}
}

// run gets the certificates before the first client has to wait for them. It gives
// up when ctx is done: the server is to stop, while those who ask still may wait.
func (a *acmeCertificates) run(ctx context.Context) {
	for _, domain := range a.domains {
		// What tells autocert that the client takes ECDSA.
		_, _ = a.get(ctx, &tls.ClientHelloInfo{ServerName: domain, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}})
	}
}

var domainName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// checkDomain says why Let's Encrypt gives no certificate for such a name.
func checkDomain(domain string) error {
	_, notIP := netip.ParseAddr(domain)
	switch {
	case notIP == nil:
		return errors.New("is an address, it takes the name of a domain")
	case strings.HasPrefix(domain, "*."):
		return errors.New("is a wildcard: name each domain")
	case len(domain) > 253 || !domainName.MatchString(domain) || !strings.Contains(domain, "."):
		return errors.New("is not the name of a domain, such as cam.example.org")
	}
	return nil
}

// listensOn reports whether one of the addresses has that port.
func listensOn(addrs []string, port string) bool {
	return slices.ContainsFunc(addrs, func(addr string) bool {
		_, p, err := net.SplitHostPort(addr)
		return err == nil && p == port
	})
}
