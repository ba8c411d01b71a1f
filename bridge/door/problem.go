package door

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"github.com/beckon-rtc/beckon/topics"
)

// Problem answers a request with err, as application/problem+json (RFC 9457).
func Problem(w http.ResponseWriter, err *topics.Error) { ProblemStatus(w, err.Code.HTTP(), err) }

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
