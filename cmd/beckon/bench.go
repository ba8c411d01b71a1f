package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// benchTTL is how long the tokens of a run are good for.
const benchTTL = time.Hour

// benchSigner makes tokens for the peers of beckon bench, with the key in a file.
func benchSigner(keyFile string) (func(name, rooms string) (string, error), error) {
	signer, err := auth.New(auth.Config{JWTKey: keyFile, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, usage(err)
	}
	signer.Close() // it need not follow the file
	return func(name, rooms string) (string, error) {
		text, _, err := signer.SignToken(auth.Claims{Name: name, Rooms: []string{rooms}, Role: topics.Peer, TTL: benchTTL})
		if wrong, ok := errors.AsType[*topics.Error](err); ok {
			err = errors.New(wrong.Message)
		}
		return text, err
	}, nil
}
