//go:build !unix

package bridge

import "net"

// Eager returns nil: what is written to conn may have to wait.
func Eager(net.Conn) func([]byte) int { return nil }
