package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// health is the command that asks a server whether it is ready, for an image
// that has no other program to ask with.
type health struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:8080/readyz" help:"What to ask."`
}

// Run succeeds if the server says that it is ready.
func (h *health) Run(out output) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return usage(fmt.Errorf("the URL is none: %w", cause(err)))
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("not reachable: %w", cause(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		where := url.URL{Scheme: request.URL.Scheme, Host: request.URL.Host, Path: request.URL.Path}
		why, _ := io.ReadAll(io.LimitReader(answer.Body, 256)) // what came of it will do
		return fmt.Errorf("not ready: %s says %s: %q", where.String(), answer.Status, bytes.TrimSpace(why))
	}
	_, err = fmt.Fprintln(out.stdout, "ready")
	return err
}

// cause is err without the URL, in which there may be a password.
func cause(err error) error {
	if of, ok := errors.AsType[*url.Error](err); ok {
		return of.Err
	}
	return err
}
