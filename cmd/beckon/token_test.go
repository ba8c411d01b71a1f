package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

func TestTokenOfTheCommandLogsIn(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	shared := writeFile(t, "jwt.key", secret)
	for name, keys := range map[string][2]string{ // to sign with, to check with
		"HS256": {shared, shared},
		"ES256": {
			writeFile(t, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
			writeFile(t, "public.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, "--jwt-key="+keys[1], "--jwt-issuer=me", "--jwt-audience=cameras")
			code, token, stderr := typed(t, "", "token", "--jwt-key", keys[0], "--jwt-issuer=me", "--jwt-audience=cameras",
				"--name=alice", "--room=garage", "--room=yard-*", "--ttl=1m")
			if code != exitOK || stderr != "" || strings.Count(token, "\n") != 1 {
				t.Fatalf("exit code %d, %q, %s", code, token, stderr)
			}
			for _, at := range []entrance{mqtt3TCP, mqtt5TCP, jsonWS} {
				s.member(t, at, "alice", strings.TrimSpace(token)).leave()
			}
			_, foreign, _ := typed(t, "", "token", "--jwt-key", keys[0], "--name=alice", "--room=garage")
			if _, err := s.login(t, mqtt5TCP, "alice", strings.TrimSpace(foreign)); err == nil {
				t.Error("a token without issuer and audience was taken")
			}
		})
	}
}

func TestTokenRefusesWhatWouldNotWork(t *testing.T) {
	key := writeFile(t, "jwt.key", secret)
	with := func(args ...string) []string {
		return append([]string{"token", "--jwt-key", key, "--name=alice", "--room=garage"}, args...)
	}
	for name, c := range map[string]struct {
		args  []string
		words string
	}{
		"no key":           {[]string{"token", "--name=alice", "--room=garage"}, "--jwt-key"},
		"no name":          {[]string{"token", "--jwt-key", key, "--room=garage"}, "--name"},
		"no room":          {[]string{"token", "--jwt-key", key, "--name=alice"}, "--room"},
		"key not there":    {[]string{"token", "--jwt-key=/none", "--name=alice", "--room=garage"}, "/none"},
		"key too short":    {[]string{"token", "--jwt-key", writeFile(t, "short", "short"), "--name=alice", "--room=garage"}, "32"},
		"bad name":         {[]string{"token", "--jwt-key", key, "--name=a/b", "--room=garage"}, "a/b"},
		"bad room":         {with("--room=#"), `"#"`},
		"viewer of nobody": {with("--role=viewer"), "viewer"},
		"no such role":     {with("--role=boss"), "--role"},
		"no time":          {with("--ttl=0s"), "--ttl"},
		"less than none":   {with("--ttl=-1m"), "--ttl"},
		"half a second":    {with("--ttl=500ms"), "second"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, stdout, stderr := typed(t, "", c.args...); code != exitUsage || stdout != "" || !strings.Contains(stderr, c.words) {
				t.Errorf("exit code %d, %q, want %q in\n%s", code, stdout, c.words, stderr)
			}
		})
	}
}
