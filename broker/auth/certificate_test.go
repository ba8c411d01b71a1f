package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// authority is a CA, or anyone who acts as one.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	by   *authority // who signed it; nil: itself
}

var day = 24 * time.Hour

func newCA(t *testing.T, name string) *authority {
	t.Helper()
	return (*authority)(nil).ca(t, name)
}

// ca makes a CA below k.
func (k *authority) ca(t *testing.T, name string) *authority {
	return k.issue(t, func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	})
}

// issue makes a certificate for a client, changed by change.
func (k *authority) issue(t *testing.T, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: number, NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(c)
	parent, signer := c, crypto.Signer(key)
	if k != nil {
		parent, signer = k.cert, k.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{parsed, key, k}
}

// named makes a certificate with a common name.
func (k *authority) named(t *testing.T, name string) *authority {
	return k.issue(t, func(c *x509.Certificate) { c.Subject.CommonName = name })
}

func (k *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.cert.Raw}))
}

func (k *authority) file(t *testing.T) string { return file(t, "ca.pem", k.pem()) }

// chain is the certificate and all above it.
func (k *authority) chain() []*x509.Certificate {
	var chain []*x509.Certificate
	for ; k != nil; k = k.by {
		chain = append(chain, k.cert)
	}
	return chain
}

// crl makes a list of revoked certificates.
func (k *authority) crl(t *testing.T, next time.Time, revoked ...*authority) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * day), NextUpdate: next}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now().Add(-day)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, k.cert, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func crlPEM(ders ...[]byte) string {
	var out bytes.Buffer
	for _, der := range ders {
		_ = pem.Encode(&out, &pem.Block{Type: "X509 CRL", Bytes: der})
	}
	return out.String()
}

func withURIs(uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = "cam1"
		for _, u := range uris {
			parsed, err := url.Parse(u)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, parsed)
		}
	}
}

// withRawURIs puts URIs into a certificate that a url.URL would not write so.
func withRawURIs(uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = "cam1"
		var list []asn1.RawValue
		for _, u := range uris {
			list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
		}
		value, err := asn1.Marshal(list)
		if err != nil {
			panic(err)
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidAlternativeNames, Value: value})
	}
}

// Row 28 of package threat. To add a certificate, add a row: what the handshake and
// then the login make of it, "" for who gets in as cam1.
func TestClientCertificates(t *testing.T) {
	threat.Row(t, 28, 0)
	ca, other := newCA(t, "Our CA"), newCA(t, "Our CA")
	between := ca.ca(t, "Workshop")
	revokedBetween := ca.ca(t, "Closed workshop")
	revoked, brother := ca.named(t, "cam1"), ca.named(t, "cam1")
	tests := []struct {
		name      string
		who       *authority
		handshake string // what the server says of it
		refusal   string // what the login says
	}{
		{"common name", brother, "", ""},
		{"URI", ca.issue(t, func(c *x509.Certificate) { withURIs("beckon:cam1")(c); c.Subject.CommonName = "someone" }), "", ""},
		{"URI beside others", ca.issue(t, withURIs("https://example.com/cam2", "beckon:cam1")), "", ""},
		{"by a CA between", between.named(t, "cam1"), "", ""},
		{"wrong CA of the same name", other.named(t, "cam1"), "unknown authority", ""},
		{"expired", ca.issue(t, func(c *x509.Certificate) { c.Subject.CommonName = "cam1"; c.NotAfter = time.Now().Add(-time.Hour) }), "expired", ""},
		{"not valid yet", ca.issue(t, func(c *x509.Certificate) { c.Subject.CommonName = "cam1"; c.NotBefore = time.Now().Add(time.Hour) }), "not yet valid", ""},
		{"self-signed", (*authority)(nil).named(t, "cam1"), "unknown authority", ""},
		{"for servers", ca.issue(t, func(c *x509.Certificate) {
			c.Subject.CommonName, c.ExtKeyUsage = "cam1", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), "key usage", ""},
		{"signed by a client", brother.named(t, "cam1"), "unknown authority", ""},
		{"revoked", revoked, "", "revoked"},
		{"by a CA that was revoked", revokedBetween.named(t, "cam1"), "", "revoked"},
		{"no account", ca.named(t, "cam9"), "", "no account"},
		{"another letter case", ca.named(t, "CAM1"), "", "no account"},
		{"a space behind", ca.named(t, "cam1 "), "", "not a name"},
		{"NUL inside", ca.named(t, "cam1\x00.evil"), "", "not a name"},
		{"Cyrillic letters", ca.named(t, "саm1"), "", "not a name"},
		{"a wildcard", ca.named(t, "*"), "", "not a name"},
		{"no name", ca.named(t, ""), "", "0 names"},
		{"two common names", ca.issue(t, func(c *x509.Certificate) {
			for _, name := range []string{"cam2", "cam1"} {
				c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name})
			}
		}), "", "2 names"},
		{"two URIs", ca.issue(t, withURIs("beckon:cam1", "beckon:cam2")), "", "2 names"},
		{"a URI with slashes", ca.issue(t, withURIs("beckon://cam1")), "", "not a name"},
		{"a URI with a query", ca.issue(t, withURIs("beckon:cam1?x")), "", "not a name"},
		{"a URI with an escape", ca.issue(t, withURIs("beckon:cam%31")), "", "not a name"},
		{"a URI with an empty fragment", ca.issue(t, withRawURIs("beckon:cam1#")), "", "not a name"},
		{"a URI with an empty query", ca.issue(t, withRawURIs("beckon:cam1?")), "", "not a name"},
		{"a URI in capitals", ca.issue(t, withRawURIs("BECKON:cam1")), "", "not a name"},
		{"a URI in capitals beside a good one", ca.issue(t, withRawURIs("beckon:cam1", "Beckon:cam1")), "", "2 names"},
		{"a raw URI", ca.issue(t, withRawURIs("urn:x#", "beckon:cam1")), "", ""},
		{"an empty URI", ca.issue(t, withURIs("beckon:")), "", "not a name"},
		{"a DNS name alone", ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"cam1"} }), "", "0 names"},
	}
	a := newAuth(t, Config{
		Users: file(t, "users.yaml", "- name: cam1\n  rooms: garage\n"), ClientCA: ca.file(t),
		ClientCRL: file(t, "crl.pem", crlPEM(ca.crl(t, time.Now().Add(day), revoked, revokedBetween))),
	})
	server := newServer(t, a)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			chain, err := server.handshake(t, test.who, tls.VersionTLS12, tls.VersionTLS13)
			if test.handshake != "" {
				if err == nil || !strings.Contains(err.Error(), test.handshake) {
					t.Errorf("the handshake ended with %v, want %q", err, test.handshake)
				}
				// Were it to come through, a resumed session say, the login would see it.
				a.refuses(topics.Credentials{TLS: test.who.chain()}, topics.Unauthorized, "the certificate is not good")
				return
			}
			if err != nil {
				t.Fatalf("handshake: %v", err)
			}
			if test.refusal != "" {
				_, err := a.Authenticate(context.Background(), topics.Credentials{TLS: chain})
				if err == nil || !strings.Contains(err.Error(), test.refusal) {
					t.Errorf("got %v, want %q", err, test.refusal)
				}
				return
			}
			id := a.lets(topics.Credentials{TLS: chain})
			if id.Name != "cam1" || id.Source != byCertificate || !id.Expires.Equal(test.who.cert.NotAfter) || len(id.Grants) != 1 {
				t.Errorf("it is %+v", id)
			}
		})
	}
	if _, err := server.handshake(t, brother, tls.VersionTLS10, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	if chain, err := server.handshake(t, nil, tls.VersionTLS12, tls.VersionTLS13); err != nil || chain != nil {
		t.Errorf("without a certificate: %v, %v", chain, err)
	}
}

// tlsServer shakes hands with clients as the program would.
type tlsServer struct {
	config *tls.Config
	own    *authority
}

func newServer(t *testing.T, a *subject) *tlsServer {
	own := newCA(t, "server CA").issue(t, func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = []string{"localhost"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	return &tlsServer{a.TLS(&tls.Config{Certificates: []tls.Certificate{own.pair()}}), own}
}

func (k *authority) pair() tls.Certificate {
	pair := tls.Certificate{PrivateKey: k.key}
	for _, c := range k.chain() {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// handshake returns the chain that the server verified, or what ended it.
func (s *tlsServer) handshake(t *testing.T, who *authority, lowest, highest uint16) ([]*x509.Certificate, error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.own.by.cert)
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: lowest, MaxVersion: highest}
	if who != nil {
		pair := who.pair()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		client := tls.Client(far, config)
		_ = client.Handshake()
		_, _ = io.Copy(io.Discard, client)
		_ = far.Close()
	}()
	server := tls.Server(near, s.config)
	err := server.Handshake()
	chains := server.ConnectionState().VerifiedChains
	_ = near.Close()
	<-done
	if err != nil || len(chains) == 0 {
		return nil, err
	}
	return chains[0], nil
}

func TestCertificateAndWhatElseIsShownMustAgree(t *testing.T) {
	ca := newCA(t, "CA")
	cam := ca.named(t, "cam1").chain()
	now := newClock()
	now.now = time.Now().Truncate(time.Second)
	a := newAuth(t, Config{
		Users: file(t, "users.yaml", account("cam1")+account("cam2")+"- name: cam3\n  rooms: garage\n"), ClientCA: ca.file(t),
		JWTKey: file(t, "key", tokenSecret), Now: now.Now, Logins: -1,
	})
	token := func(name string) string { return hs256(claiming(now.Now(), "sub", `"`+name+`"`)) }
	for _, good := range []topics.Credentials{
		{}, {Username: "cam1"}, {Username: "cam1", Password: password}, {Password: password}, {Token: token("cam1")}, {Username: "cam1", Password: token("cam1")},
	} {
		good.TLS = cam
		if id := a.lets(good); id.Name != "cam1" || id.Source != byCertificate {
			t.Errorf("it is %+v", id)
		}
	}
	if id := a.lets(topics.Credentials{TLS: cam, Token: token("cam1")}); !id.Expires.Equal(now.Now().Add(10 * time.Minute)) {
		t.Errorf("it ends %v, the token sooner", id.Expires)
	}
	for _, bad := range []struct {
		c     topics.Credentials
		words string
	}{
		{topics.Credentials{Username: "cam2"}, "the certificate is of cam1"},
		{topics.Credentials{Username: "cam2", Password: password}, "the certificate is of cam1"},
		{topics.Credentials{Username: "cam1", Password: "wrong"}, "name or password wrong"},
		{topics.Credentials{Token: token("cam2")}, "the certificate is of cam1"},
		{topics.Credentials{Token: "x"}, "the token is refused"},
	} {
		bad.c.TLS = cam
		a.refuses(bad.c, topics.Unauthorized, bad.words)
	}
	a.refuses(topics.Credentials{TLS: ca.named(t, "cam3").chain(), Password: password}, topics.Unauthorized, "name or password wrong")
	plain := newAuth(t, Config{Users: file(t, "users.yaml", account("cam1"))})
	plain.refuses(topics.Credentials{TLS: cam}, topics.Unauthorized, "client certificates are not taken here")
}

func TestCRLsAreTakenIfTheCASignedThem(t *testing.T) {
	ca, other := newCA(t, "CA"), newCA(t, "CA") // of the same name
	cam := ca.named(t, "cam1")
	next := time.Now().Add(day)
	users := file(t, "users.yaml", "- name: cam1\n  rooms: garage\n")
	delta := func() []byte {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(2), ThisUpdate: time.Now(), NextUpdate: next,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}},
		}, ca.cert, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}()
	for name, test := range map[string]struct {
		crl, says string // what New says
		logs      string
		revoked   bool
	}{
		"PEM":                   {crl: crlPEM(ca.crl(t, next, cam)), revoked: true},
		"DER":                   {crl: string(ca.crl(t, next, cam)), revoked: true},
		"of others":             {crl: crlPEM(ca.crl(t, next, ca.named(t, "cam1")))},
		"two of them":           {crl: crlPEM(ca.crl(t, next), ca.crl(t, next, cam)), revoked: true},
		"empty":                 {crl: crlPEM(ca.crl(t, next))},
		"out of date":           {crl: crlPEM(ca.crl(t, time.Now().Add(-time.Hour), cam)), revoked: true, logs: "out of date"},
		"signed by a stranger":  {crl: crlPEM(other.crl(t, next, cam)), says: "no CA of --client-ca signed it"},
		"delta":                 {crl: crlPEM(delta), says: "not understood"},
		"no CRL":                {crl: "hello", says: "it is no CRL"},
		"a certificate for one": {crl: ca.pem(), says: "X509 CRLs only"},
		"broken PEM":            {crl: "-----BEGIN X509 CRL-----\n", says: "there is no CRL in it"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Users: users, ClientCA: ca.file(t), ClientCRL: file(t, "crl", test.crl)}
			if test.says != "" {
				if _, err := New(c); err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), c.ClientCRL) {
					t.Errorf("got %v, want %q", err, test.says)
				}
				return
			}
			a := newAuth(t, c)
			if !strings.Contains(a.out.String(), test.logs) || test.logs == "" && a.out.String() != "" {
				t.Errorf("logged %q, want %q", a.out, test.logs)
			}
			if test.revoked {
				a.refuses(topics.Credentials{TLS: cam.chain()}, topics.Unauthorized, "revoked")
			} else {
				a.lets(topics.Credentials{TLS: cam.chain()})
			}
		})
	}
	a := newAuth(t, Config{Users: users, ClientCA: file(t, "cas", ca.pem()+other.pem()), ClientCRL: file(t, "crl", crlPEM(ca.crl(t, next, cam)))})
	if !strings.Contains(a.out.String(), "a CA has no CRL") {
		t.Error("nothing said of the CA without a CRL")
	}
}

func TestRevokedCertificateIsOffAfterReload(t *testing.T) {
	threat.Row(t, 28, 0)
	ca := newCA(t, "CA")
	cam := ca.named(t, "cam1")
	next := time.Now().Add(day)
	crl, cas := file(t, "crl", crlPEM(ca.crl(t, next))), ca.file(t)
	a := newAuth(t, Config{Users: file(t, "users.yaml", "- name: cam1\n  rooms: garage\n"), ClientCA: cas, ClientCRL: crl})
	server := newServer(t, a)
	id := a.lets(topics.Credentials{TLS: cam.chain()})
	if same, err := a.Recheck(id); err != nil || !same.Expires.Equal(id.Expires) {
		t.Errorf("rechecked: %+v, %v", same, err)
	}
	put(t, crl, crlPEM(ca.crl(t, next, cam)))
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	none, err := a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "revoked")

	// Another CA takes over: the handshake goes by it, and so does the login.
	newer := newCA(t, "CA 2")
	put(t, cas, newer.pem())
	put(t, crl, crlPEM(newer.crl(t, next)))
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	none, err = a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "CA is not trusted here any more")
	if _, err := server.handshake(t, cam, tls.VersionTLS12, tls.VersionTLS13); err == nil {
		t.Error("a certificate of the old CA came through the handshake")
	}
	if _, err := server.handshake(t, newer.named(t, "cam1"), tls.VersionTLS12, tls.VersionTLS13); err != nil {
		t.Error(err)
	}
}

func TestClientCAsSaysWhatIsWrong(t *testing.T) {
	ca := newCA(t, "CA")
	for content, says := range map[string]string{
		"":                           "no certificate in it",
		ca.pem() + publicPEM(ca.key): "block 2 is a PUBLIC KEY",
		ca.named(t, "cam1").pem():    "not one of a CA",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "certificate 1",
	} {
		path := file(t, "ca.pem", content)
		if _, err := ClientCAs(path); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	if pool, err := ClientCAs(ca.file(t)); err != nil || pool == nil {
		t.Errorf("got %v, %v", pool, err)
	}
	if _, err := ClientCAs("/nowhere/ca.pem"); err == nil || errors.Unwrap(err) == nil {
		t.Errorf("got %v", err)
	}
}
