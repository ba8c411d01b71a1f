package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// ask asks a handler.
func ask(h http.Handler, method, url, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// startShop is a server where the shop may have tokens made, and its key.
func startShop(t testing.TB, args ...string) (*site, string) {
	t.Helper()
	key, hash := auth.NewAPIKey()
	keys := writeFile(t, "keys.yaml", "- {name: shop, hash: \""+hash+"\", rooms: [garage, shop-*], names: [guest-*], ttl: 1h}\n")
	return startSite(t, append(args, "--jwt-key="+writeFile(t, "jwt.key", secret), "--api-key="+keys)...), key
}

func post(t testing.TB, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	openAPIDocument(t).answered("POST", r.URL.Path, answer.StatusCode, answer.Header, string(text))
	return answer, string(text)
}

func TestTokenOfAnAPIKeyLogsIn(t *testing.T) {
	s, key := startShop(t)
	for _, body := range []string{
		`{"name":"guest-1","room":"garage"}`,
		`{"name":"guest-1","rooms":["garage","shop-7"],"role":"peer","ttl":60,"device":false}`,
		`{"name":"guest-1","room":"garage","ttl":"1m"}`,
	} {
		answer, text := post(t, s.URL+"/api/v1/tokens", body, "Authorization", "Bearer "+key)
		var made struct {
			Token   string
			Expires int64
		}
		if err := json.Unmarshal([]byte(text), &made); err != nil || answer.StatusCode != 201 {
			t.Fatalf("%s: %d %s", body, answer.StatusCode, text)
		}
		if left := time.Until(time.Unix(made.Expires, 0)); left < 50*time.Second || left > 11*time.Minute {
			t.Errorf("%s: it expires in %v", body, left)
		}
		if answer.Header.Get("Cache-Control") != "no-store" {
			t.Error("it may be stored on the way")
		}
		for _, at := range []entrance{mqtt5TCP, jsonWS} {
			s.member(t, at, "guest-1", made.Token).leave()
		}
		if strings.Contains(s.Log.String(), made.Token) || strings.Contains(s.Log.String(), key) {
			t.Error("a token or a key is in the log")
		}
	}
}

func TestTokenRequestsAreRefusedWithTheReason(t *testing.T) {
	s, key := startShop(t, "--origin=https://app.example", "--limit-logins=0")
	bearer := []string{"Authorization", "Bearer " + key}
	long := `{"name":"` + strings.Repeat("a", maxTokenRequest) + `"}`
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
		reason string
		words  string
	}{
		"no key":               {`{"name":"guest-1","room":"garage"}`, nil, 401, "unauthorized", "API key is missing"},
		"wrong key":            {`{"name":"guest-1","room":"garage"}`, []string{"Authorization", "Bearer wrong"}, 401, "unauthorized", "wrong"},
		"key as Basic":         {`{"name":"guest-1","room":"garage"}`, []string{"Authorization", "Basic " + key}, 401, "unauthorized", "missing"},
		"another room":         {`{"name":"guest-1","room":"attic"}`, bearer, 403, "forbidden", "attic"},
		"all rooms":            {`{"name":"guest-1","room":"*"}`, bearer, 403, "forbidden", "*"},
		"one of two rooms":     {`{"name":"guest-1","rooms":["garage","attic"]}`, bearer, 403, "forbidden", "attic"},
		"wider role":           {`{"name":"guest-1","room":"garage","role":"admin"}`, bearer, 403, "forbidden", "admin"},
		"another name":         {`{"name":"cam1","room":"garage"}`, bearer, 403, "forbidden", "cam1"},
		"a device":             {`{"name":"guest-1","room":"garage","device":true}`, bearer, 403, "forbidden", "device"},
		"too long a life":      {`{"name":"guest-1","room":"garage","ttl":7200}`, bearer, 403, "forbidden", "1h"},
		"no name":              {`{"room":"garage"}`, bearer, 400, "bad-request", "name"},
		"no room":              {`{"name":"guest-1"}`, bearer, 400, "bad-request", "rooms"},
		"empty rooms":          {`{"name":"guest-1","rooms":[]}`, bearer, 400, "bad-request", "rooms"},
		"room and rooms":       {`{"name":"guest-1","room":"garage","rooms":["garage"]}`, bearer, 400, "bad-request", "not both"},
		"viewer of nobody":     {`{"name":"guest-1","room":"garage","role":"viewer"}`, bearer, 400, "bad-request", "viewer"},
		"peer without viewer":  {`{"name":"guest-1","room":"garage","peer":"cam1"}`, bearer, 400, "bad-request", "viewer"},
		"no such role":         {`{"name":"guest-1","room":"garage","role":"boss"}`, bearer, 400, "bad-request", "observer"},
		"role in capitals":     {`{"name":"guest-1","room":"garage","role":"PEER"}`, bearer, 400, "bad-request", "observer"},
		"name with a slash":    {`{"name":"a/b","room":"garage"}`, bearer, 400, "bad-request", "a/b"},
		"name of a number":     {`{"name":1,"room":"garage"}`, bearer, 400, "bad-request", "name is not a text"},
		"name null":            {`{"name":null,"room":"garage"}`, bearer, 400, "bad-request", "name is not a text"},
		"rooms of a text":      {`{"name":"guest-1","rooms":"garage"}`, bearer, 400, "bad-request", "list"},
		"ttl of none":          {`{"name":"guest-1","room":"garage","ttl":0}`, bearer, 400, "bad-request", "ttl"},
		"ttl below zero":       {`{"name":"guest-1","room":"garage","ttl":-1}`, bearer, 400, "bad-request", "ttl"},
		"ttl of half a second": {`{"name":"guest-1","room":"garage","ttl":0.5}`, bearer, 400, "bad-request", "ttl"},
		"ttl in words":         {`{"name":"guest-1","room":"garage","ttl":"soon"}`, bearer, 400, "bad-request", "ttl"},
		"ttl endless":          {`{"name":"guest-1","room":"garage","ttl":1e999}`, bearer, 400, "bad-request", "ttl"},
		"unknown member":       {`{"name":"guest-1","room":"garage","admin":true}`, bearer, 400, "bad-request", "nothing else"},
		"another letter case":  {`{"Name":"guest-1","room":"garage"}`, bearer, 400, "bad-request", "nothing else"},
		"a member twice":       {`{"name":"guest-1","room":"garage","name":"guest-2"}`, bearer, 400, "bad-request", "twice"},
		"not JSON":             {`name=guest-1`, bearer, 400, "bad-request", "JSON"},
		"no body":              {``, bearer, 400, "bad-request", "JSON"},
		"a list":               {`[]`, bearer, 400, "bad-request", "JSON"},
		"half an object":       {`{"name":"guest-1"`, bearer, 400, "bad-request", "JSON"},
		"two objects":          {`{"name":"guest-1","room":"garage"}{}`, bearer, 400, "bad-request", "follows"},
		"too long":             {long, bearer, 413, "too-large", "16384"},
		"a form":               {`name=guest-1`, append(bearer, "Content-Type", "application/x-www-form-urlencoded"), 415, "bad-request", "application/json"},
		"a foreign page":       {`{"name":"guest-1","room":"garage"}`, append(bearer, "Origin", "https://evil.example"), 403, "forbidden", "evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, body := post(t, s.URL+"/api/v1/tokens", c.body, c.header...)
			reason, detail := problemOf(t, answer, body)
			if answer.StatusCode != c.status || reason != c.reason || !strings.Contains(detail, c.words) {
				t.Errorf("%d %s %q, want %d %s %q", answer.StatusCode, reason, detail, c.status, c.reason, c.words)
			}
			if challenge := answer.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == 401) {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
			if strings.Contains(body, key) {
				t.Error("the answer shows the key")
			}
		})
	}
}

func TestAllowedPageMayAskForTokens(t *testing.T) {
	threat.Row(t, 10, threat.HTTP)
	s, key := startShop(t, "--origin=https://app.example")
	url := s.URL + "/api/v1/tokens"
	answer, _ := post(t, url, `{"name":"guest-1","room":"garage"}`, "Authorization", "Bearer "+key, "Origin", "https://app.example")
	if answer.StatusCode != 201 || answer.Header.Get("Access-Control-Allow-Origin") != "https://app.example" || answer.Header.Get("Vary") != "Origin" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	for _, c := range []struct {
		method, origin string
		status         int
	}{{"OPTIONS", "https://app.example", 204}, {"OPTIONS", "https://evil.example", 403}, {"GET", "https://app.example", 405}, {"PUT", "", 405}} {
		r, _ := http.NewRequest(c.method, url, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		allowed := answer.Header.Get("Access-Control-Allow-Headers") == "Authorization, Content-Type" && answer.Header.Get("Access-Control-Allow-Methods") == "POST"
		if answer.StatusCode != c.status || allowed != (c.status == 204) || (c.status == 405) != (answer.StatusCode == 405 && answer.Header.Get("Allow") != "") {
			t.Errorf("%s from %q: %d %v", c.method, c.origin, answer.StatusCode, answer.Header)
		}
	}
}

func TestTokensAreNotMadeWithoutKeys(t *testing.T) {
	s := startServer(t, "--jwt-key="+writeFile(t, "jwt.key", secret))
	answer, body := post(t, s.URL+"/api/v1/tokens", `{"name":"a","room":"b"}`, "Authorization", "Bearer x")
	if reason, detail := problemOf(t, answer, body); answer.StatusCode != 403 || reason != "forbidden" || !strings.Contains(detail, "no API key is configured") {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
	dev := startServer(t)
	if answer, _ := post(t, dev.URL+"/api/v1/tokens", "{}"); answer.StatusCode != 404 {
		t.Errorf("with --dev %d", answer.StatusCode)
	}
}

func FuzzTokenRequest(f *testing.F) {
	f.Add([]byte(`{"name":"guest-1","rooms":["a","b*"],"role":"viewer","peer":"cam1","ttl":"10m","device":true}`))
	f.Add([]byte(`{"ttl":1e99,"name":"a","name":"b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if want, err := claimsOf(body); err == nil && (want.TTL < 0 || !json.Valid(body)) {
			t.Errorf("%q was read as %+v", body, want)
		}
	})
}

func TestTokenThatCannotBeMadeIsInTheLog(t *testing.T) {
	var log bytes.Buffer
	broken := &tokens{log: slog.New(slog.NewTextHandler(&log, nil)), mint: func(context.Context, topics.Credentials, auth.Claims) (string, time.Time, error) {
		return "", time.Time{}, errors.New("the key does not sign")
	}}
	answer := ask(broken, "POST", "/api/v1/tokens", `{"name":"guest-1","room":"garage"}`, "Content-Type", "application/json")
	if answer.Code != 500 || strings.Contains(answer.Body.String(), "key") || !strings.Contains(log.String(), "the key does not sign") {
		t.Errorf("%d %s; the log has %q", answer.Code, answer.Body, &log)
	}
}
