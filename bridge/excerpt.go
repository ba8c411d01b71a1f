package bridge

import "fmt"

// Excerpt is foreign text in an error: escaped, and cut.
func Excerpt(s string) string {
	const most = 120
	if len(s) > most {
		return fmt.Sprintf("%+q... (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%+q", s)
}
