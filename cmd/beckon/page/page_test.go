package page

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T) func(method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(Handler())
	t.Cleanup(server.Close)
	return func(method, path string, header ...string) (*http.Response, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}
}

func TestEveryFileIsServedWithItsTypeAndTheHeadersThatGuardIt(t *testing.T) {
	get := serve(t)
	types := map[string]string{
		"/":            "text/html; charset=utf-8",
		"/index.html":  "text/html; charset=utf-8",
		"/style.css":   "text/css; charset=utf-8",
		"/console.js":  "text/javascript; charset=utf-8",
		"/beckon.js":   "text/javascript; charset=utf-8",
		"/favicon.svg": "image/svg+xml",
	}
	for path, want := range types {
		response, body := get(http.MethodGet, path)
		if response.StatusCode != http.StatusOK || body == "" {
			t.Errorf("GET %s: %s, %d bytes", path, response.Status, len(body))
		}
		for name, value := range map[string]string{
			"Content-Type":            want,
			"Content-Security-Policy": policy,
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
			"Cache-Control":           "no-cache",
		} {
			if got := response.Header.Get(name); got != value {
				t.Errorf("GET %s: %s is %q, want %q", path, name, got, value)
			}
		}
	}
}

func TestHeadIsGetWithoutTheBody(t *testing.T) {
	get := serve(t)
	full, body := get(http.MethodGet, "/")
	head, none := get(http.MethodHead, "/")
	if head.StatusCode != http.StatusOK || none != "" {
		t.Errorf("HEAD /: %s with %d bytes", head.Status, len(none))
	}
	if head.ContentLength != int64(len(body)) || head.Header.Get("ETag") != full.Header.Get("ETag") {
		t.Errorf("HEAD / says %d bytes and %s, GET %d and %s", head.ContentLength, head.Header.Get("ETag"), len(body), full.Header.Get("ETag"))
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	get := serve(t)
	first, _ := get(http.MethodGet, "/beckon.js")
	etag := first.Header.Get("ETag")
	if !regexp.MustCompile(`^"[\w-]+"$`).MatchString(etag) {
		t.Fatalf("ETag %q is not a strong one", etag)
	}
	for _, sent := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		again, body := get(http.MethodGet, "/beckon.js", "If-None-Match", sent)
		if again.StatusCode != http.StatusNotModified || body != "" || again.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match %s: %s with %d bytes and ETag %s", sent, again.Status, len(body), again.Header.Get("ETag"))
		}
	}
	if other, body := get(http.MethodGet, "/beckon.js", "If-None-Match", `"other"`); other.StatusCode != http.StatusOK || body == "" {
		t.Errorf("with another ETag: %s with %d bytes", other.Status, len(body))
	}
}

func TestOnlyGetAndHeadAreTaken(t *testing.T) {
	get := serve(t)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		response, body := get(method, "/")
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s /: %s, Allow %q", method, response.Status, response.Header.Get("Allow"))
		}
		if !strings.Contains(body, "GET or HEAD") {
			t.Errorf("%s / answers %q", method, body)
		}
	}
}

func TestWhatIsNotThereIsSaidInPlainWords(t *testing.T) {
	get := serve(t)
	for _, path := range []string{"/nothing", "/page.go", "/index.html/", "//", "/%2e%2e/page.go", "/favicon.ico"} {
		response, body := get(http.MethodGet, path)
		if response.StatusCode != http.StatusNotFound || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("GET %s: %s as %s", path, response.Status, response.Header.Get("Content-Type"))
		}
		if !strings.Contains(body, "nothing here") || strings.Contains(body, "<") {
			t.Errorf("GET %s answers %q", path, body)
		}
	}
}

// The policy forbids inline scripts and styles, and a browser would refuse them without a word to the user.
func TestThePageNeedsNothingThatItsPolicyForbids(t *testing.T) {
	get := serve(t)
	_, html := get(http.MethodGet, "/")
	for what, pattern := range map[string]string{
		"inline script":   `<script[^>]*>[^<]`,
		"inline style":    `<style|\sstyle=`,
		"inline handler":  `\son[a-z]+=`,
		"foreign address": `(src|href)="(https?:)?//`,
	} {
		if found := regexp.MustCompile(pattern).FindString(html); found != "" {
			t.Errorf("index.html has an %s: %s", what, found)
		}
	}
	scripts, err := fs.Glob(files, "*.js")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	for _, name := range scripts {
		_, code := get(http.MethodGet, "/"+name)
		if found := regexp.MustCompile(`innerHTML|insertAdjacentHTML|document\.write|\beval\(`).FindString(code); found != "" {
			t.Errorf("%s uses %s: what peers say would become markup", name, found)
		}
		for _, match := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(code, -1) {
			if response, _ := get(http.MethodGet, "/"+match[1]); response.StatusCode != http.StatusOK {
				t.Errorf("%s imports %s: %s", name, match[1], response.Status)
			}
		}
	}
	for _, match := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(html, -1) {
		if response, _ := get(http.MethodGet, "/"+match[1]); response.StatusCode != http.StatusOK {
			t.Errorf("index.html needs %s: %s", match[1], response.Status)
		}
	}
}
