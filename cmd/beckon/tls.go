package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/beckon-rtc/beckon/bridge/door"
)

// tlsSettings are the settings of TLS, a part of [serve].
type tlsSettings struct {
	TLSCert       string   `name:"tls-cert" help:"Certificate chain (PEM), to take TLS on every listener, too. Read again when it changes." env:"BECKON_TLS_CERT" placeholder:"FILE"`
	TLSKey        string   `name:"tls-key" help:"Its private key (PEM)." env:"BECKON_TLS_KEY" placeholder:"FILE"`
	ACME          []string `name:"acme" help:"Domain to get a certificate for from Let's Encrypt, to whose terms this agrees; may be repeated. Port 443 or 80 of the domain must lead here." env:"BECKON_ACME" placeholder:"DOMAIN"`
	ACMECache     string   `name:"acme-cache" help:"Folder to keep these certificates in." env:"BECKON_ACME_CACHE" placeholder:"DIR"`
	TLSSelfSigned bool     `name:"tls-self-signed" help:"With --dev: make a certificate for this run, and print its fingerprint." env:"BECKON_TLS_SELF_SIGNED"`
	TLSOnly       bool     `name:"tls-only" help:"Refuse who comes without TLS, in words, but not from loopback; what a trusted proxy says of its client counts first." env:"BECKON_TLS_ONLY"`
	ClientCA      string   `name:"client-ca" help:"CAs (PEM) whose client certificates log in, as the accounts of --users that they name." env:"BECKON_CLIENT_CA" placeholder:"FILE"`
	ClientCRL     string   `name:"client-crl" help:"Their revoked certificates (CRLs, PEM or DER)." env:"BECKON_CLIENT_CRL" placeholder:"FILE"`
}

// check says what is wrong with them, all at once.
func (s *tlsSettings) check(dev bool) error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	files := s.TLSCert != "" || s.TLSKey != ""
	switch {
	case !files:
	case s.TLSKey == "":
		add("--tls-cert %s needs --tls-key, its private key", s.TLSCert)
	case s.TLSCert == "":
		add("--tls-key %s needs --tls-cert, its certificate", s.TLSKey)
	default:
		if _, err := newPair(s.TLSCert, s.TLSKey, slog.New(slog.DiscardHandler)); err != nil {
			wrong = append(wrong, err)
		}
	}
	if files && len(s.ACME) > 0 || files && s.TLSSelfSigned || len(s.ACME) > 0 && s.TLSSelfSigned {
		add("--tls-cert, --acme and --tls-self-signed each say where the certificate comes from: take one of them")
	}
	for _, domain := range s.ACME {
		if err := checkDomain(domain); err != nil {
			add("--acme %q %w", domain, err)
		}
	}
	switch info, err := os.Stat(s.ACMECache); {
	case s.ACMECache == "" && len(s.ACME) > 0:
		add("--acme needs --acme-cache, a folder of its own: without it each start would ask for new certificates, which Let's Encrypt does not give without end")
	case s.ACMECache != "" && len(s.ACME) == 0:
		add("--acme-cache %s is for --acme, which is not given", s.ACMECache)
	case s.ACMECache != "" && err == nil && !info.IsDir():
		add("--acme-cache %s is a file, it takes a folder", s.ACMECache)
	}
	if s.TLSSelfSigned && !dev {
		add("--tls-self-signed is for --dev: no client of others could tell such a certificate from a forged one")
	}
	for _, needs := range []struct {
		flag string
		set  bool
	}{{"--tls-only", s.TLSOnly}, {"--client-ca", s.ClientCA != ""}} {
		if needs.set && !s.any() {
			add("%s needs a certificate of the server's own: --tls-cert and --tls-key, or --acme", needs.flag)
		}
	}
	return errors.Join(wrong...)
}

// any reports whether TLS is configured at all.
func (s *tlsSettings) any() bool {
	return s.TLSCert != "" || s.TLSKey != "" || len(s.ACME) > 0 || s.TLSSelfSigned
}

// encryption is the TLS of a server.
type encryption struct {
	config *tls.Config // nil: there is none
	reload func() error
	plain  func(http.Handler) http.Handler // for the door; nil: nothing
	run    func(context.Context)           // when the server runs
}

// encryption makes it, for as long as life goes on. What was made up is told to w.
func (s *tlsSettings) encryption(life context.Context, listen []string, log *slog.Logger, w io.Writer) (*encryption, error) {
	e := &encryption{
		reload: func() error { return nil },
		run:    func(context.Context) {},
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: door.Protocols()}
	switch {
	case len(s.ACME) > 0:
		a, err := newACME(life, s.ACME, s.ACMECache, log)
		if err != nil {
			return nil, err
		}
		config.GetCertificate, e.run = a.GetCertificate, a.run
		config.NextProtos = append(config.NextProtos, acme.ALPNProto)
		if listensOn(listen, "80") {
			e.plain = a.manager.HTTPHandler
		}
		if !listensOn(listen, "80") && !listensOn(listen, "443") {
			log.Warn("no --listen is on port 443 or 80, where Let's Encrypt asks: one of them must be forwarded to this program")
		}
	case s.TLSSelfSigned:
		made, err := selfSigned(hostNames())
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{made}
		fmt.Fprintf(w, "self-signed certificate of this run for %s; SHA-256 fingerprint %s\n",
			strings.Join(namesOf(made.Leaf), ", "), fingerprint(made.Leaf))
	case s.TLSCert != "":
		p, err := newPair(s.TLSCert, s.TLSKey, log)
		if err != nil {
			return nil, err
		}
		config.GetCertificate, e.reload = p.GetCertificate, p.reload
	default:
		return e, nil
	}
	e.config = config
	return e, nil
}

// bare is the configuration without what is the doors' own: for turns:, whose
// clients show no certificate.
func (e *encryption) bare() *tls.Config {
	if e.config == nil {
		return nil
	}
	c := e.config.Clone()
	c.NextProtos = nil
	return c
}
