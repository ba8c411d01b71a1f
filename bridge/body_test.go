package bridge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestBodyIsOfItsTypeAndNotTooLong(t *testing.T) {
	for _, c := range []struct {
		method, kind, body string
		status             int // 0: it is taken
		header             string
	}{
		{"POST", "application/json", "1234", 0, ""},
		{"POST", "Application/JSON; charset=utf-8", "", 0, ""},
		{"POST", "application/json", "12345", 413, ""},
		{"POST", "text/plain", "", 415, "Accept-Post"},
		{"PATCH", "", "", 415, "Accept-Patch"},
		{"PATCH", "application/json/", "", 415, "Accept"},
	} {
		r, w := httptest.NewRequest(c.method, "/", strings.NewReader(c.body)), httptest.NewRecorder()
		r.Header.Set("Content-Type", c.kind)
		text, err := Body(t.Context(), w, r, "application/json", 4)
		if c.status == 0 {
			if err != nil || string(text) != c.body {
				t.Errorf("%+v: %q, %v", c, text, err)
			}
			continue
		}
		if status := Status(err); status != c.status || c.header != "" && w.Header().Get(c.header) != "application/json" {
			t.Errorf("%+v: %v, %v", c, err, w.Header())
		}
	}
}

func TestBodyThatDoesNotComeIs408AndOneThatIsBrokenIs400(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
		defer cancel()
		text, err := Body(ctx, w, r, "application/json", 10)
		if err != nil {
			Refuse(w, r, slog.New(slog.DiscardHandler), err)
			return
		}
		<-ctx.Done() // the end of the time that the body had is not that of the request
		fmt.Fprintf(w, "%s %v", text, r.Context().Err())
	}))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	answers := bufio.NewReader(c)
	ask := func(body string) (*http.Response, string) {
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n", body)
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(text)
	}
	for range 2 {
		if answer, text := ask("1234"); answer.StatusCode != 200 || text != "1234 <nil>" || answer.Close {
			t.Errorf("a body that comes: %s %s", answer.Status, text)
		}
	}
	for _, c := range []struct{ body, want string }{
		{"3\r\n123x", "malformed chunked encoding"},
		{"x\r\n", "invalid byte in chunk length"},
	} {
		bad, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer bad.Close()
		bad.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(bad, "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", c.body+"\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(bad), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != 400 || !strings.Contains(string(text), c.want) {
			t.Errorf("%q: %s %s", c.body, answer.Status, text)
		}
	}
	if answer, text := ask("12"); answer.StatusCode != 408 || !strings.Contains(text, `"reason":"timeout"`) || !answer.Close {
		t.Errorf("one that does not: %s %s", answer.Status, text)
	}
}
