// Package bustest holds the contract of [bridge.Bus] as a test, [Run], which
// every implementation must pass, and the simplest implementation, [Memory]: a
// map, for the tests of doors.
package bustest
