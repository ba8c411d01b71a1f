package topics

import "fmt"

// Server is the name of the server itself as a peer of every room: it sends
// from it and is addressed by it. No client can have it, since a name begins
// with a letter or a digit.
const Server = "_"

// MaxName is the length of the longest name of a room or a peer, in bytes.
const MaxName = 64

// ValidName reports whether s can name a room or a peer:
// [A-Za-z0-9][A-Za-z0-9_.-]{0,63}. Names are case-sensitive.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > MaxName || !alphanumeric(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !alphanumeric(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// CheckName explains what is wrong with s as the name of a what ("room",
// "peer"), or returns nil.
func CheckName(what, s string) error {
	if ValidName(s) {
		return nil
	}
	return Errorf(BadRequest, "%s %s is not a name: it takes 1 to %d letters, digits, '_', '.' and '-', and begins with a letter or a digit",
		what, quote(s), MaxName)
}

// validSession reports whether s can name a session: [A-Za-z0-9_-]{1,64}.
func validSession(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// quote shows foreign text in an error: escaped, so that it cannot forge a log
// line, and cut, so that it cannot fill one.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%+q... (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%+q", s)
}
