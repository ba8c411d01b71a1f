package bridge

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/beckon-rtc/beckon/topics"
)

// Credentials are what the client showed with its request: a bearer token, HTTP
// Basic, else a token as access_token in the query, which a browser's WebSocket
// has no header for; beside them a client certificate. Other schemes are not
// looked at.
func Credentials(r *http.Request) topics.Credentials {
	var c topics.Credentials
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		c.Token = strings.TrimSpace(token)
	case strings.EqualFold(scheme, "Basic"):
		c.Username, c.Password, _ = r.BasicAuth()
	}
	if c.Token == "" && c.Username == "" {
		c.Token = r.URL.Query().Get("access_token") // RFC 6750, 2.3
	}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Remote = addr.Addr().Unmap()
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.TLS = r.TLS.VerifiedChains[0]
	}
	return c
}
