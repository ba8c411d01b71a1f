package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/crypto/acme"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// presented is the certificate that the server shows.
func presented(t testing.TB, addr string, config *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

var anyCertificate = &tls.Config{InsecureSkipVerify: true}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, to, string(text))
}

func TestNewCertificateIsSeenByNewHandshakes(t *testing.T) {
	t.Parallel()
	cert, key := writeCertificate(t)
	s := startServer(t, "--tls-cert="+cert, "--tls-key="+key)
	before, err := presented(t, s.MQTT, anyCertificate)
	if err != nil {
		t.Fatal(err)
	}
	kept := tls.Client(dial(t, s.MQTT), anyCertificate)
	mqttConnect(t, kept, connect5)

	newCert, newKey := writeCertificate(t)
	copyFile(t, newCert, cert) // a pair that is none, for a moment
	s.awaitShown(t, "the certificate was not loaded", func() { presented(t, s.MQTT, anyCertificate) })
	if now, err := presented(t, s.MQTT, anyCertificate); err != nil || !now.Equal(before) {
		t.Errorf("a broken pair is in force: %v", err)
	}
	copyFile(t, newKey, key)
	eventually(t, "the new certificate", func() bool {
		now, err := presented(t, s.MQTT, anyCertificate)
		return err == nil && !now.Equal(before)
	})
	if _, err := io.WriteString(kept, "\xc0\x00"); err != nil { // PINGREQ
		t.Error(err)
	}
	if _, err := io.ReadFull(kept, make([]byte, 2)); err != nil {
		t.Errorf("the connection of before: %v", err)
	}
}

func TestSIGHUPLoadsTheCertificateAtOnceAndSaysWhatIsWrong(t *testing.T) {
	cert, key := writeCertificate(t)
	s := startServer(t, "--tls-cert="+cert, "--tls-key="+key)
	before, _ := presented(t, s.MQTT, anyCertificate)
	replace(t, key, "garbage")
	s.Reload <- os.Interrupt
	s.awaitShown(t, "reload failed", nil)
	if now, err := presented(t, s.MQTT, anyCertificate); err != nil || !now.Equal(before) {
		t.Errorf("the one before is not in force: %v", err)
	}
	newCert, newKey := writeCertificate(t)
	copyFile(t, newCert, cert)
	copyFile(t, newKey, key)
	s.Reload <- os.Interrupt
	s.awaitShown(t, "reloaded, as SIGHUP asks", nil)
	if now, err := presented(t, s.MQTT, anyCertificate); err != nil || now.Equal(before) {
		t.Errorf("the new one is not in force: %v", err)
	}
}

// awaitShown waits until the server says something, and does something meanwhile.
func (s *testServer) awaitShown(t testing.TB, words string, meanwhile func()) {
	t.Helper()
	eventually(t, words, func() bool {
		if meanwhile != nil {
			meanwhile()
		}
		return strings.Contains(s.Log.String(), words)
	})
}

func TestTLS11IsRefused(t *testing.T) {
	threat.Row(t, 28, 0)
	cert, key := writeCertificate(t)
	s := startServer(t, "--tls-cert="+cert, "--tls-key="+key)
	if _, err := presented(t, s.MQTT, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
}

func TestTLSOnlySaysSoAtEveryDoor(t *testing.T) {
	ip := otherAddress(t)
	cert, key := writeCertificate(t)
	s := startServer(t, "--listen=:0", "--users="+usersFile(t, map[string]string{"alice": alicePwd}), "--tls-cert="+cert, "--tls-key="+key, "--tls-only")
	if !strings.Contains(s.Log.String(), "with tls only") {
		t.Error("it does not say so when it starts")
	}
	_, port, _ := net.SplitHostPort(s.MQTT)
	const words = "this server takes TLS only"
	for _, from := range []struct {
		host  string
		taken bool
	}{{ip, false}, {"127.0.0.1", true}} {
		addr := net.JoinHostPort(from.host, port)
		for connect, refusal := range map[string]string{
			connect3: "\x20\x02\x00\x05",
			connect5: "\x20",
			"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04cam1": "\x20\x02\x00\x05",
		} {
			c := dial(t, addr)
			io.WriteString(c, connect)
			answer, _ := io.ReadAll(c)
			said := strings.HasPrefix(string(answer), refusal)
			if connect == connect5 {
				said = len(answer) > 3 && answer[3] == 0x87 && bytes.Contains(answer, []byte(words))
			}
			if from.taken { // and refused for want of credentials
				said = bytes.Contains(answer, []byte(words))
			}
			if said == from.taken {
				t.Errorf("%q from %s: % x %q", connect, from.host, answer, answer)
			}
		}
		for _, path := range []string{"/", "/healthz", "/ws", "/mqtt", "/api/v1/tokens"} {
			answer, body := get(t, "GET", "http://"+addr+path, nil)
			if from.taken {
				if strings.Contains(body, words) {
					t.Errorf("%s from loopback: %s", path, body)
				}
				continue
			}
			if reason, detail := problemOf(t, answer, body); answer.StatusCode != 403 || reason != "forbidden" || !strings.Contains(detail, words) || !strings.Contains(detail, "wss://") {
				t.Errorf("%s: %d %s %q", path, answer.StatusCode, reason, detail)
			}
		}
		for _, path := range []string{"/ws", "/mqtt"} {
			dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
			c, answer, err := dialer.Dial("ws://"+addr+path, nil)
			if err == nil {
				c.Close()
			}
			if taken := err == nil; taken != from.taken {
				t.Errorf("%s from %s: %v %v", path, from.host, err, answer)
			}
		}
		if answer, _ := get(t, "GET", "https://"+addr+"/healthz", anyCertificate); answer.StatusCode != 200 {
			t.Errorf("by TLS: %d", answer.StatusCode)
		}
	}
}

func TestSelfSignedCertificateIsMadeAndItsFingerprintPrinted(t *testing.T) {
	s := startServer(t, "--tls-self-signed")
	c, err := presented(t, s.MQTT, anyCertificate)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`SHA-256 fingerprint ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})`).FindStringSubmatch(s.Log.String())
	if line == nil || line[1] != fingerprint(c) {
		t.Errorf("not the fingerprint %s in:\n%s", fingerprint(c), s.Log)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := c.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool()}
	trust.RootCAs.AddCert(c)
	if answer, _ := get(t, "GET", "https://"+s.MQTT+"/healthz", trust); answer.StatusCode != 200 {
		t.Errorf("who trusts it gets %d", answer.StatusCode)
	}
}

// authority is a CA of client certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cameras"}, NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte("cameras"),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) file(t testing.TB) string {
	return writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})))
}

func (a authority) client(t testing.TB, name string, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a authority) revoke(t testing.TB, serials ...int64) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func TestClientCertificateLogsInAtEveryDoorOfTLS(t *testing.T) {
	t.Parallel()
	threat.Row(t, 28, threat.TLS|threat.JSON)
	ca := newAuthority(t)
	users := usersFile(t, map[string]string{"cam1": "", "alice": alicePwd})
	crl := writeFile(t, "crl.pem", ca.revoke(t))
	s := startSite(t, "--users="+users, "--client-ca="+ca.file(t), "--client-crl="+crl, "--limit-logins=0")
	plain := s.trust
	withCertificate := func(c tls.Certificate) *site {
		trust := plain.Clone()
		trust.Certificates = []tls.Certificate{c}
		return &site{testServer: s.testServer, trust: trust}
	}
	encrypted := []entrance{mqtt3TLS, mqtt5TLS, mqtt3WSS, mqtt5WSS, jsonWSS}
	for _, at := range encrypted {
		camera := withCertificate(ca.client(t, "cam1", 10)).member(t, at, "cam1", "")
		camera.leave()
		s.member(t, at, "alice", alicePwd).leave() // without one
		for what, c := range map[string]tls.Certificate{
			"of nobody":     ca.client(t, "nobody", 11),
			"of another CA": newAuthority(t).client(t, "cam1", 12),
		} {
			guest, err := withCertificate(c).login(t, at, "cam1", "")
			if err == nil && at.protocol == "JSON" {
				err = guest.line.join("garage")
			}
			if err == nil {
				t.Errorf("a certificate %s gets in by %v", what, at)
			}
		}
	}
	for _, at := range encrypted {
		camera := withCertificate(ca.client(t, "cam1", 20)).member(t, at, "cam1", "")
		replace(t, crl, ca.revoke(t, 20))
		camera.isEnded("0x87", "4510")
		replace(t, crl, ca.revoke(t))
		eventually(t, "the list to be empty again", func() bool {
			again, err := withCertificate(ca.client(t, "cam1", 20)).login(t, mqtt5TLS, "cam1", "")
			if err == nil {
				again.leave()
			}
			return err == nil
		})
	}
}

// The whole of autocert but the CA: what it keeps in its folder is shown.
func TestACMECertificatesComeFromTheFolder(t *testing.T) {
	cache := t.TempDir()
	keep := func(file, domain string) *x509.Certificate {
		made, err := selfSigned([]string{domain}, nil)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(made.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		text := append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})...)
		if err := os.WriteFile(filepath.Join(cache, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
		return made.Leaf
	}
	cam := keep("cam.example", "cam.example")
	other := keep("other.example", "other.example")
	challenge := keep("cam.example+token", "cam.example")
	s := startServer(t, "--acme=cam.example", "--acme=other.example", "--acme-cache="+cache)
	for name, want := range map[string]*x509.Certificate{"cam.example": cam, "other.example": other, "": cam} {
		got, err := presented(t, s.MQTT, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil || !got.Equal(want) {
			t.Errorf("for %q: %v", name, err)
		}
	}
	got, err := presented(t, s.MQTT, &tls.Config{InsecureSkipVerify: true, ServerName: "cam.example", NextProtos: []string{acme.ALPNProto}})
	if err != nil || !got.Equal(challenge) {
		t.Errorf("TLS-ALPN-01: %v", err)
	}
	if _, err := presented(t, s.MQTT, &tls.Config{InsecureSkipVerify: true, ServerName: "evil.example"}); err == nil {
		t.Error("it has a certificate for a domain that it was not given")
	}
	if info, err := os.Stat(cache); err != nil || !info.IsDir() {
		t.Error(err)
	}
}

func TestACMEChallengeByHTTPIsForPort80AndPassesTLSOnly(t *testing.T) {
	cache := t.TempDir()
	if err := os.WriteFile(filepath.Join(cache, "abc+http-01"), []byte("abc.thumbprint"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := tlsSettings{ACME: []string{"cam.example"}, ACMECache: cache}
	for listen, want := range map[string]string{"127.0.0.1:80": "abc.thumbprint", "127.0.0.1:8080": "else"} {
		e, err := settings.encryption(t.Context(), []string{listen}, new(serve).logger(io.Discard), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "else") }))
		if e.plain != nil {
			handler = e.plain(handler)
		}
		if got := ask(handler, "GET", "http://cam.example/.well-known/acme-challenge/abc", ""); got.Body.String() != want {
			t.Errorf("listening on %s: %q, want %q", listen, got.Body, want)
		}
	}
}

// TestBrokenTLSDoesNotStart is row 33 of package threat, for TLS.
func TestBrokenTLSDoesNotStart(t *testing.T) {
	threat.Row(t, 33, 0)
	cert, key := writeCertificate(t)
	pair := []string{"serve", "--dev", "--tls-cert=" + cert, "--tls-key=" + key}
	with := func(args ...string) []string { return append(pair[:4:4], args...) }
	dev := func(args ...string) []string { return append([]string{"serve", "--dev"}, args...) }
	users := "--users=" + usersFile(t, map[string]string{"alice": alicePwd})
	accounts := append([]string{"serve", users}, pair[2:]...)
	file := writeFile(t, "file", "x")
	refused(t, map[string]broken{
		"TLS only, no TLS":           {dev("--tls-only"), []string{"--tls-only needs a certificate"}},
		"two certificates":           {with("--tls-self-signed"), []string{"take one of them"}},
		"ACME and a file":            {with("--acme=a.example", "--acme-cache="+t.TempDir()), []string{"take one of them"}},
		"self-signed for others":     {[]string{"serve", users, "--tls-self-signed"}, []string{"--tls-self-signed is for --dev"}},
		"ACME without a folder":      {dev("--acme=a.example"), []string{"--acme needs --acme-cache"}},
		"folder without ACME":        {dev("--acme-cache=" + t.TempDir()), []string{"--acme-cache", "is for --acme"}},
		"folder is a file":           {dev("--acme=a.example", "--acme-cache="+file), []string{"--acme-cache", "is a file"}},
		"ACME for an address":        {dev("--acme=192.0.2.1", "--acme-cache="+t.TempDir()), []string{`--acme "192.0.2.1" is an address`}},
		"ACME wildcard":              {dev("--acme=*.a.example", "--acme-cache="+t.TempDir()), []string{"is a wildcard"}},
		"ACME with a scheme":         {dev("--acme=https://a.example", "--acme-cache="+t.TempDir()), []string{"is not the name of a domain"}},
		"ACME for localhost":         {dev("--acme=localhost", "--acme-cache="+t.TempDir()), []string{"is not the name of a domain"}},
		"client CA with --dev":       {with("--client-ca=" + cert), []string{"--dev lets anyone in, so --client-ca"}},
		"client CA without TLS":      {[]string{"serve", users, "--client-ca=" + newAuthority(t).file(t)}, []string{"--client-ca needs a certificate of the server's own"}},
		"client CA is no CA":         {append(accounts, "--client-ca="+cert), []string{"--client-ca", "not one of a CA"}},
		"client CA not there":        {append(accounts, "--client-ca=/none"), []string{"--client-ca", "/none"}},
		"client CA not PEM":          {append(accounts, "--client-ca="+file), []string{"--client-ca", "PEM"}},
		"CRL without a CA":           {append(accounts, "--client-crl="+file), []string{"--client-crl", "--client-ca"}},
		"CRL is none":                {append(accounts, "--client-ca="+newAuthority(t).file(t), "--client-crl="+file), []string{"no CRL"}},
		"key as certificate":         {dev("--tls-cert="+key, "--tls-key="+cert), []string{"do not make a pair"}},
		"--dev on a public address":  {with("--listen=0.0.0.0:1883"), []string{"--listen 0.0.0.0:1883 with --dev"}},
		"--dev on an address of v6":  {with("--listen=[::]:1883"), []string{"--listen [::]:1883 with --dev"}},
		"self-signed, no --dev, dom": {[]string{"serve", "--tls-self-signed", "--acme=x"}, []string{"nobody could come in", "--tls-self-signed", "--acme-cache", `--acme "x"`}},
	})
}
