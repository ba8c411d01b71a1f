// Command threats reads what go test -v printed and prints the table of threats:
// which test showed what, at which doors, and what nothing shows.
package main

import (
	"fmt"
	"os"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func main() {
	if err := threat.Table(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
