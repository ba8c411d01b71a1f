package bridge

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/beckon-rtc/beckon/topics"
)

// Problem answers a request with err, as application/problem+json (RFC 9457).
func Problem(w http.ResponseWriter, err *topics.Error) { ProblemStatus(w, err.Code.HTTP(), err) }

// ProblemResponse is the same as a whole response, which ends the connection.
func ProblemResponse(err *topics.Error) []byte {
	w := response{header: make(http.Header)}
	Problem(&w, err)
	r := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Close: true,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()),
	}
	var b bytes.Buffer
	_ = r.Write(&b) // into memory
	return b.Bytes()
}

// response keeps an answer.
type response struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *response) Header() http.Header         { return r.header }
func (r *response) WriteHeader(status int)      { r.status = status }
func (r *response) Write(p []byte) (int, error) { return r.body.Write(p) }

// ProblemStatus does so with a status that says more than the code of err.
func ProblemStatus(w http.ResponseWriter, status int, err *topics.Error) {
	h := w.Header()
	if err.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(err.RetryAfter))))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // the client is gone: nobody to tell
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		Reason    string `json:"reason"`
		Temporary bool   `json:"temporary"`
	}{http.StatusText(status), status, err.Message, err.Code.Reason(), err.Code.Temporary()})
}
