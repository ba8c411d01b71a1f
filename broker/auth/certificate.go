package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// trust is whose client certificates count, and which of them do no more.
type trust struct {
	pool    *x509.CertPool
	roots   map[string]bool            // fingerprints of the CAs
	revoked map[string]map[string]bool // serial numbers, by the id of the CA
	stale   time.Time                  // when the first CRL is out of date; zero: never
	warned  atomic.Bool
}

// ClientCAs reads a PEM file of CA certificates. Its errors say what is wrong
// with which of them.
func ClientCAs(file string) (*x509.CertPool, error) {
	data, err := readFile(file, maxKeys)
	if err != nil {
		return nil, err
	}
	cas, err := parseCAs(file, data)
	if err != nil {
		return nil, err
	}
	return poolOf(cas), nil
}

func poolOf(cas []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool
}

func parseCAs(file string, data []byte) ([]*x509.Certificate, error) {
	var cas []*x509.Certificate
	var wrong []error
	for i := 1; ; i++ {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			wrong = append(wrong, fmt.Errorf("%s: block %d is a %s, it takes CERTIFICATEs of CAs only", file, i, cut(block.Type)))
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s: certificate %d: %w", file, i, err))
		case !ca.IsCA || !ca.BasicConstraintsValid:
			wrong = append(wrong, fmt.Errorf("%s: certificate %d (%s) is not one of a CA; name the CA that signed it instead", file, i, ca.Subject))
		default:
			cas = append(cas, ca)
		}
	}
	if len(cas)+len(wrong) == 0 {
		wrong = append(wrong, fmt.Errorf("%s: there is no certificate in it; it takes PEM", file))
	}
	return cas, errors.Join(wrong...)
}

// newTrust puts the CAs and the CRLs together. A CRL counts if one of the CAs
// signed it.
func newTrust(caFile string, caData []byte, crlFile string, crlData []byte) (*trust, []*x509.Certificate, error) {
	cas, err := parseCAs(caFile, caData)
	t := &trust{pool: poolOf(cas), roots: make(map[string]bool), revoked: make(map[string]map[string]bool)}
	for _, ca := range cas {
		t.roots[fingerprint(ca)] = true
	}
	if crlFile == "" {
		return t, nil, err
	}
	wrong := []error{err}
	crls, err := parseCRLs(crlData)
	if err != nil {
		wrong = append(wrong, fmt.Errorf("%s: %w", crlFile, err))
	}
	for i, crl := range crls {
		if err := t.add(crl, cas); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: CRL %d, of %s: %w", crlFile, i+1, crl.Issuer, err))
		}
	}
	var unchecked []*x509.Certificate
	for _, ca := range cas {
		if t.revoked[idOf(ca)] == nil {
			unchecked = append(unchecked, ca)
		}
	}
	return t, unchecked, errors.Join(wrong...)
}

// parseCRLs reads one CRL in DER, or any number of them in PEM.
func parseCRLs(data []byte) ([]*x509.RevocationList, error) {
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		crl, err := x509.ParseRevocationList(data)
		if err != nil {
			return nil, fmt.Errorf("it is no CRL, neither in PEM nor in DER: %w", err)
		}
		return []*x509.RevocationList{crl}, nil
	}
	var crls []*x509.RevocationList
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it has a %s, it takes X509 CRLs only", cut(block.Type))
		}
		crl, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("CRL %d: %w", len(crls)+1, err)
		}
		crls = append(crls, crl)
	}
	if len(crls) == 0 {
		return nil, errors.New("there is no CRL in it")
	}
	return crls, nil
}

func (t *trust) add(crl *x509.RevocationList, cas []*x509.Certificate) error {
	at := slices.IndexFunc(cas, func(ca *x509.Certificate) bool {
		return bytes.Equal(ca.RawSubject, crl.RawIssuer) && crl.CheckSignatureFrom(ca) == nil
	})
	if at < 0 {
		return errors.New("no CA of --client-ca signed it; add the CA there, or take the CRL out")
	}
	// RFC 5280, 5.2: one with a critical extension that is not understood, as
	// delta and indirect CRLs have, cannot tell which certificates are good.
	for _, e := range crl.Extensions {
		if e.Critical {
			return fmt.Errorf("its extension %v is not understood here; it takes a complete CRL of the CA itself", e.Id)
		}
	}
	id := idOf(cas[at])
	if t.revoked[id] == nil {
		t.revoked[id] = make(map[string]bool)
	}
	for _, e := range crl.RevokedCertificateEntries {
		t.revoked[id][serial(e.SerialNumber)] = true
	}
	if next := crl.NextUpdate; !next.IsZero() && (t.stale.IsZero() || next.Before(t.stale)) {
		t.stale = next
	}
	return nil
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:16])
}

// idOf tells a CA from others, by name and key.
func idOf(ca *x509.Certificate) string {
	sum := sha256.Sum256(slices.Concat(ca.RawSubject, ca.RawSubjectPublicKeyInfo))
	return hex.EncodeToString(sum[:16])
}

func serial(n *big.Int) string { return n.Text(16) }

// holder is what a good client certificate says.
type holder struct {
	name    string
	expires time.Time // of the first in its chain that does
	stamp   string
}

// holder checks a chain, leaf first, and says whose it is. The TLS layer has
// checked it when the connection began, or an earlier one that it resumes; the
// CAs and CRLs may have changed since.
func (t *trust) holder(chain []*x509.Certificate, now time.Time, log *slog.Logger) (holder, error) {
	if t == nil {
		return holder{}, topics.Errorf(topics.Unauthorized, "client certificates are not taken here")
	}
	if !t.stale.IsZero() && now.After(t.stale) && !t.warned.Swap(true) {
		log.Warn("a CRL is out of date: certificates that were revoked since are taken; get a new one", "until", t.stale)
	}
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return holder{}, topics.Errorf(topics.Unauthorized, "the certificate is not good: %s", verifyError(err))
	}
	name, err := nameOf(leaf)
	if err != nil {
		return holder{}, err
	}
	for _, chain := range chains {
		stamp := stampOf(chain)
		if err = t.recheck(stamp); err != nil {
			continue
		}
		h := holder{name: name, expires: leaf.NotAfter, stamp: stamp}
		for _, c := range chain {
			if c.NotAfter.Before(h.expires) {
				h.expires = c.NotAfter
			}
		}
		return h, nil
	}
	return holder{}, err
}

func verifyError(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return "it has expired, or is not valid yet"
		case x509.IncompatibleUsage:
			return "it is not for clients"
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "no CA that is trusted here signed it"
	}
	return "its chain is not valid"
}

// stampOf is a chain in short: the fingerprint of its CA, then each certificate
// below it as the id of who signed it and its number.
func stampOf(chain []*x509.Certificate) string {
	parts := []string{fingerprint(chain[len(chain)-1])}
	for i, c := range chain[:len(chain)-1] {
		parts = append(parts, idOf(chain[i+1])+":"+serial(c.SerialNumber))
	}
	return strings.Join(parts, " ")
}

// recheck says whether a chain that was good still is.
func (t *trust) recheck(stamp string) error {
	root, rest, _ := strings.Cut(stamp, " ")
	if t == nil || !t.roots[root] {
		return topics.Errorf(topics.Unauthorized, "the certificate's CA is not trusted here any more")
	}
	for c := range strings.SplitSeq(rest, " ") {
		id, number, _ := strings.Cut(c, ":")
		if t.revoked[id][number] {
			return topics.Errorf(topics.Unauthorized, "the certificate was revoked")
		}
	}
	return nil
}

var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidAlternativeNames = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// nameOf is whose certificate it is: the URI beckon:NAME among its alternative
// names, else its common name. Exactly one, exactly as a name is written: what
// comes close is refused, not mended.
func nameOf(c *x509.Certificate) (string, error) {
	var names []string
	uris, err := rawURIs(c)
	if err != nil {
		return "", topics.Errorf(topics.Unauthorized, "the certificate: its alternative names cannot be read")
	}
	for _, uri := range uris {
		if scheme, _, ok := strings.Cut(uri, ":"); ok && strings.EqualFold(scheme, "beckon") {
			name, _ := strings.CutPrefix(uri, "beckon:") // another case stays, and is no name
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		for _, part := range c.Subject.Names {
			if text, ok := part.Value.(string); ok && part.Type.Equal(oidCommonName) {
				names = append(names, text)
			}
		}
	}
	if len(names) != 1 {
		return "", topics.Errorf(topics.Unauthorized, "the certificate has %d names, it takes one: a URI beckon:NAME, or else a common name", len(names))
	}
	if err := checkName(names[0]); err != nil {
		return "", topics.Errorf(topics.Unauthorized, "the certificate: %v", err)
	}
	return names[0], nil
}

// rawURIs returns the URIs among the alternative names of c as they stand there:
// a url.URL has lost the case of the scheme, and a "#" with nothing behind it.
func rawURIs(c *x509.Certificate) ([]string, error) {
	const tagURI = 6
	var uris []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidAlternativeNames) {
			continue
		}
		var list asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &list); err != nil || len(rest) > 0 {
			return nil, errors.New("trailing or broken data")
		}
		for rest := list.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, err
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == tagURI {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris, nil
}

// TLS returns c so that it asks clients for a certificate of the CAs of now.
// Who shows none is let through to show something else; one that is not good
// ends the handshake. It is c itself where no CA is configured. A
// GetConfigForClient in c is replaced; GetCertificate stays.
func (a *Auth) TLS(c *tls.Config) *tls.Config {
	if a.ClientCA == "" {
		return c
	}
	var last atomic.Pointer[offer]
	asking := c.Clone()
	asking.MinVersion = max(asking.MinVersion, tls.VersionTLS12)
	asking.ClientAuth = tls.VerifyClientCertIfGiven
	asking.Time = a.Now
	asking.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		t := a.state.Load().trust
		if o := last.Load(); o != nil && o.trust == t {
			return o.config, nil // the same one: session tickets live in it
		}
		config := asking.Clone()
		config.GetConfigForClient = nil
		config.ClientCAs = t.pool
		last.Store(&offer{t, config})
		return config, nil
	}
	return asking
}

type offer struct {
	trust  *trust
	config *tls.Config
}

// certificate logs in by a client certificate. What else is shown must be good,
// too, and of the same name.
func (a *Auth) certificate(ctx context.Context, l *login) (topics.Identity, error) {
	h, err := l.trust.holder(l.TLS, a.Now(), a.Logger)
	if err != nil {
		return topics.Identity{}, err
	}
	u := l.users.user(h.name)
	if u == nil {
		return topics.Identity{}, topics.Errorf(topics.Forbidden, "the certificate is good, but %s has no account here", h.name)
	}
	id := u.identity(byCertificate, h.stamp)
	id.Expires = h.expires
	if l.Username != "" && l.Username != h.name {
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the certificate is of %s, the user name is another; leave it out", h.name)
	}
	if l.token != "" {
		p, err := a.checkToken(ctx, l)
		if err != nil {
			return topics.Identity{}, err
		}
		if p.sub != h.name {
			return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the certificate is of %s, the token of another", h.name)
		}
		if p.exp.Before(id.Expires) {
			id.Expires = p.exp.Time
		}
	}
	if l.password != "" {
		if _, err := a.checkPassword(ctx, l, h.name); err != nil {
			return topics.Identity{}, err
		}
	}
	return id, nil
}
