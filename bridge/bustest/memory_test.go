package bustest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	const grace = 300 * time.Millisecond
	bustest.Run(t, func(*testing.T) bridge.Connect { return (&bustest.Memory{Grace: grace}).Connect }, grace)
}
