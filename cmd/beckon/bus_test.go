package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

func TestBrokerKeepsTheContractOfTheBus(t *testing.T) {
	const grace = 300 * time.Millisecond
	bustest.Run(t, func(t *testing.T) bridge.Connect {
		b, err := broker.New(broker.Config{Authenticate: auth.Dev, Grace: grace, Rate: -1, Joins: -1, Hold: -1, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return func(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
			return b.Connect(id, via, inbox)
		}
	}, grace)
}
