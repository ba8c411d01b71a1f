package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// tokens is POST /api/v1/tokens: a token for who shows an API key.
//
//	> Authorization: Bearer beckon_...
//	> {"name":"alice","room":"garage","role":"viewer","peer":"cam1","ttl":600}
//	< 201 {"token":"...","expires":1790000000}
//
// "rooms" takes a list in place of "room"; "role" is peer if left out, and "ttl",
// in seconds or a text such as "10m", ten minutes; "device" is false. "expires"
// is in Unix seconds.
type tokens struct {
	mint    func(context.Context, topics.Credentials, auth.Claims) (token string, expires time.Time, err error)
	origins bridge.Origins
	log     *slog.Logger
}

const maxTokenRequest = 16 << 10 // bytes

func (t *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Add("Vary", "Origin")
	if err := t.origins.Check(r); err != nil {
		bridge.Refuse(w, r, t.log, err)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		header.Set("Access-Control-Allow-Origin", origin)
	}
	var err error
	switch r.Method {
	case http.MethodPost:
		err = t.post(w, r)
	case http.MethodOptions:
		header.Set("Allow", "OPTIONS, POST")
		header.Set("Access-Control-Allow-Methods", "POST")
		header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		header.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	default:
		header.Set("Allow", "OPTIONS, POST")
		err = bridge.Refused(http.StatusMethodNotAllowed, "tokens are asked for with POST")
	}
	if err != nil {
		bridge.Refuse(w, r, t.log, err)
	}
}

func (t *tokens) post(w http.ResponseWriter, r *http.Request) error {
	body, err := bridge.Body(r.Context(), w, r, "application/json", maxTokenRequest)
	if err != nil {
		return err
	}
	want, err := claimsOf(body)
	if err != nil {
		return topics.Errorf(topics.BadRequest, "no such token: %v", err)
	}
	token, expires, err := t.mint(r.Context(), bearer(r), want)
	if err != nil {
		if topics.AsError(err).Code == topics.Unauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="beckon API key"`)
		}
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires": expires.Unix()}) // the client is gone: nobody to tell
	return nil
}

// bearer is what r shows, and where it comes from.
func bearer(r *http.Request) topics.Credentials {
	var c topics.Credentials
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		c.Token = strings.TrimSpace(token)
	}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Remote = addr.Addr().Unmap()
	}
	return c
}

// claimsOf reads a request: each member at most once, its name exactly as it is,
// and no others.
func claimsOf(body []byte) (want auth.Claims, err error) {
	malformed := errors.New("the body is not a JSON object")
	in := json.NewDecoder(bytes.NewReader(body))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return want, malformed
	}
	seen := make(map[string]bool)
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return want, malformed
		}
		member := name.(string) // of an object
		if seen[member] {
			return want, errors.New("a member stands in it twice")
		}
		seen[member] = true
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return want, malformed
		}
		if err := setClaim(&want, member, value); err != nil {
			return want, err
		}
	}
	if _, err := in.Token(); err != nil {
		return want, malformed
	}
	if _, err := in.Token(); err != io.EOF {
		return want, errors.New("something follows the JSON object")
	}
	if seen["room"] && seen["rooms"] {
		return want, errors.New(`it takes "room" or "rooms", not both`)
	}
	return want, nil
}

func setClaim(want *auth.Claims, member string, value json.RawMessage) error {
	text := func(to *string) error {
		if json.Unmarshal(value, to) != nil || value[0] != '"' {
			return errors.New(member + " is not a text")
		}
		return nil
	}
	var err error
	switch member {
	case "name":
		err = text(&want.Name)
	case "room":
		var room string
		err = text(&room)
		want.Rooms = []string{room}
	case "rooms":
		if json.Unmarshal(value, &want.Rooms) != nil || value[0] != '[' {
			err = errors.New("rooms is not a list of texts")
		}
	case "role":
		var name string
		if err = text(&name); err == nil {
			want.Role, err = roleOf(name)
		}
	case "peer":
		err = text(&want.Peer)
	case "device":
		if json.Unmarshal(value, &want.Device) != nil || value[0] == 'n' {
			err = errors.New("device is not true or false")
		}
	case "ttl":
		want.TTL, err = ttlOf(value)
	default:
		err = errors.New("it takes name, room or rooms, role, peer, device and ttl, nothing else")
	}
	return err
}

// ttlOf reads seconds, or a text such as "10m".
func ttlOf(value json.RawMessage) (time.Duration, error) {
	var seconds int32
	if json.Unmarshal(value, &seconds) == nil && value[0] != 'n' && seconds > 0 {
		return time.Duration(seconds) * time.Second, nil
	}
	var text string
	if json.Unmarshal(value, &text) == nil && value[0] == '"' {
		if ttl, err := time.ParseDuration(text); err == nil && ttl > 0 {
			return ttl, nil
		}
	}
	return 0, errors.New(`ttl is neither seconds, such as 600, nor a duration, such as "10m"`)
}
