package bridge

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// bodyWithin is how long a body may take to come, less than the door gives an answer.
const bodyWithin = 7 * time.Second

// Body reads the body of a request, which must be of that Content-Type and has at
// most so many bytes. It must be there in 7 s, and before ctx ends. The error is for its
// client: 415, 413, 408, or 400 for one that is broken off or malformed.
func Body(ctx context.Context, w http.ResponseWriter, r *http.Request, kind string, limit int) ([]byte, error) {
	says := r.Header.Get("Content-Type")
	if is, _, err := mime.ParseMediaType(says); err != nil || is != kind {
		header := w.Header()
		header.Set("Accept", kind) // RFC 9110, 15.5.16
		if r.Method == http.MethodPatch {
			header.Set("Accept-Patch", kind) // RFC 5789, 2.2
		} else {
			header.Set("Accept-Post", kind)
		}
		return nil, Refused(http.StatusUnsupportedMediaType, "the body is of Content-Type %s, it takes %s", Excerpt(says), kind)
	}
	until := time.Now().Add(bodyWithin)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(until) // a recorder has none
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, topics.Errorf(topics.TooLarge, "the body is longer than the limit of %d bytes", limit)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, topics.Errorf(topics.BadRequest, "the body could not be read: %v", err)
	}
	if err != nil {
		return nil, Refusal{topics.Errorf(topics.Timeout, "the body did not come"), http.StatusRequestTimeout}
	}
	_ = conn.SetReadDeadline(time.Time{}) // by which net/http would take the client for gone
	return text, nil
}
