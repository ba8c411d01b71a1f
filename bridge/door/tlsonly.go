package door

import (
	"net/http"
	"net/netip"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// tlsOnly is what a plain client is told, in the form of its protocol.
const tlsOnly = "this server takes TLS only; this very port does"

var errTLSOnly = topics.Errorf(topics.Forbidden, tlsOnly)

// encryption is what a proxy has said of how its client came.
type encryption byte

const (
	unsaid encryption = iota
	inClear
	byTLS
)

// mustEncrypt reports whether the client at that address may not go on as it is
// on c, of which a proxy has said so much.
func (d *Door) mustEncrypt(c *conn, client netip.Addr, said encryption) bool {
	if !d.config.TLSOnly || said == byTLS {
		return false
	}
	return said == inClear || !c.encrypted() && countedFor(client).IsValid()
}

// encryptedOnly refuses plain requests.
func (d *Door) encryptedOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.mustEncrypt(connOf(r), clientOf(r), encryptionOf(r)) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		bridge.Problem(w, topics.Errorf(topics.Forbidden, tlsOnly+": use https:// or wss://"))
	})
}
