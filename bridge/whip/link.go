package whip

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/beckon-rtc/beckon/topics"
)

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// addLinks tells of ICE servers: a Link for each URL (RFC 9725, 4.6).
func addLinks(header http.Header, servers []topics.ICEServer) {
	for _, s := range servers {
		for _, url := range s.URLs {
			link := "<" + url + `>; rel="ice-server"`
			if s.Username != "" {
				link += fmt.Sprintf(`; username="%s"; credential="%s"; credential-type="password"`, quoted.Replace(s.Username), quoted.Replace(s.Credential))
			}
			header.Add("Link", link)
		}
	}
}
