// Package threat is the list of what may be thrown at Beckon, and how a test says
// that it shows one of its rows. It is for tests; it stands beside the contract
// so that the tests of every package may use it.
//
//	func TestHalfConnect...(t *testing.T) {
//		threat.Row(t, 15, threat.TCP|threat.TLS)
//
// With -v such a test logs a line when it has ended, with the result that it had.
// [Table] makes the table of all rows out of them: what no test showed, or not at
// each of its doors, is missing there. CI prints it.
package threat
