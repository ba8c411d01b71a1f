//go:build !unix

package bridge

import (
	"errors"
	"net"
	"sync"
)

// Lent reads a socket into buffers of a pool. Here there is none.
type Lent struct{}

// NewLent returns nil: conn must be read into a buffer of one's own.
func NewLent(net.Conn) *Lent { return nil }

// Read is not called.
func (*Lent) Read(*sync.Pool) (*[]byte, int, error) { return nil, 0, errors.ErrUnsupported }
