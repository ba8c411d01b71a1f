// Package page is the console that the server shows at "/": rooms, peers, cameras on screen, this browser as a
// camera, and every signaling message. It is plain files without a build step, embedded in the program, and it
// speaks to the server only as any other browser would, over /ws with beckon.js.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed *.html *.css *.js *.svg
var files embed.FS

// policy lets the page use its own origin only. Sockets may also go elsewhere, for an application that is tried
// out from here; pictures come from peers (blob:, and streams, which no policy covers).
const policy = "default-src 'self'; media-src 'self' blob:; connect-src 'self' ws: wss:; style-src 'self'; script-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

type asset struct {
	body        []byte
	contentType string
	etag        string
}

// Handler serves the page at "/" and its files beside it, to GET and HEAD.
func Handler() http.Handler {
	assets := load(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		a, known := assets[r.URL.Path]
		if !known {
			http.Error(w, "There is nothing here. The console is at /.", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "The console is only read: use GET or HEAD.", http.StatusMethodNotAllowed)
			return
		}
		// An upgraded server must not meet modules of the one before it, so each use asks whether it is current.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", a.etag)
		if matches(r.Header.Get("If-None-Match"), a.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", a.contentType)
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(a.body) // the reader went away: nobody is left to tell
		}
	})
}

// load reads the embedded files once, by the URL path of each. A file that cannot be read is a mistake of the
// build, which the test finds.
func load(files fs.FS) map[string]asset {
	names, _ := fs.Glob(files, "*")
	assets := make(map[string]asset, len(names)+1)
	for _, name := range names {
		body, err := fs.ReadFile(files, name)
		if err != nil {
			continue
		}
		sum := sha256.Sum256(body)
		assets["/"+name] = asset{
			body:        body,
			contentType: contentType(name),
			etag:        `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
		}
	}
	assets["/"] = assets["/index.html"]
	return assets
}

// contentType does not ask the machine's MIME tables for what browsers are strict about.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(ext)
	}
}

// matches is the weak comparison of RFC 9110, section 13.1.2.
func matches(ifNoneMatch, etag string) bool {
	for tag := range strings.SplitSeq(ifNoneMatch, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
