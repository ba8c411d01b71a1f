package bridge

import (
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/beckon-rtc/beckon/topics"
)

// Body reads the body of a request, which must be of that Content-Type and has at
// most so many bytes. The error is for its client.
func Body(w http.ResponseWriter, r *http.Request, kind string, limit int) ([]byte, error) {
	says := r.Header.Get("Content-Type")
	if is, _, err := mime.ParseMediaType(says); err != nil || is != kind {
		header := w.Header()
		header.Set("Accept", kind) // RFC 9110, 15.5.16
		if r.Method == http.MethodPatch {
			header.Set("Accept-Patch", kind) // RFC 5789, 2.2
		} else {
			header.Set("Accept-Post", kind)
		}
		return nil, Refused(http.StatusUnsupportedMediaType, "the body is of Content-Type %s, it takes %s", shown(says), kind)
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, topics.Errorf(topics.TooLarge, "the body is longer than the limit of %d bytes", limit)
	}
	if err != nil {
		return nil, topics.Errorf(topics.Timeout, "the body did not come")
	}
	return text, nil
}
