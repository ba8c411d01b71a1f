package main

import "math"

// ballastSize is how much garbage may come together where little is alive.
const ballastSize = 8 << 20

// ballast returns memory that is alive and never touched, so that the system gives
// none for it. The collector runs when there is as much garbage as there is alive
// (GOGC), which with a hundred connections is little: flat out it ran 24 times a
// second, and each time emptied the pools and shrank the stacks, which the next
// messages had to make anew. With the ballast it runs ten times a second there, which
// takes a tenth of a message's CPU away, and with thousands of connections as before;
// a larger GOGC would have let garbage grow with them. There is none where memory is limited (GOMEMLIMIT), which counts it.
func ballast(memoryLimit int64) []byte {
	if memoryLimit != math.MaxInt64 {
		return nil
	}
	return make([]byte, ballastSize)
}
