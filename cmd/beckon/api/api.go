// Package api is the documents of the server's interfaces, for people and for
// tools: OpenAPI 3.1 of what HTTP has, AsyncAPI 3 of MQTT and WebSocket. The schemas
// of what travels stand once, in schemas.yaml, and each document carries them, so
// that it needs no other file. Tests of package main hold them against the server.
package api

import (
	_ "embed"
	"net/http"
	"strings"
	"time"
)

//go:embed openapi.yaml
var openAPI string

//go:embed asyncapi.yaml
var asyncAPI string

//go:embed schemas.yaml
var schemas string

// OpenAPI is the document of what HTTP has, in YAML.
func OpenAPI() string { return bundle(openAPI) }

// AsyncAPI is the document of what MQTT and WebSocket have, in YAML.
func AsyncAPI() string { return bundle(asyncAPI) }

// bundle adds the schemas to a document, which ends inside of components.schemas.
func bundle(document string) string {
	var b strings.Builder
	b.WriteString(document)
	for line := range strings.Lines(schemas) {
		if line != "\n" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// Handler serves a document. Pages of any site may read it: it is the same for all.
func Handler(document string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "use GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("Content-Type", "application/yaml") // RFC 9512
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(document))
	})
}
