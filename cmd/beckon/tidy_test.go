package main

import "testing"

func TestMemoryIsGivenBackOnceACrowdHasComeIn(t *testing.T) {
	const mega = 1 << 20
	d := new(tidy)
	for _, look := range []struct {
		what        string
		ever, alive uint64
		due         bool
	}{
		{"nobody came yet", mega, mega, false},
		{"they are coming", 40 * mega, 20 * mega, false},
		{"more are coming", 90 * mega, 30 * mega, false},
		{"they are there", 90*mega + 1000, 30 * mega, true},
		{"they say little", 90*mega + 9000, 30 * mega, false},
		{"they talk", 100 * mega, 30 * mega, false},
		{"they are quiet again", 100*mega + 1000, 30 * mega, true},
		{"still", 100*mega + 2000, 30 * mega, false},
		{"one came", 101 * mega, 30 * mega, false},
		{"that is not worth it", 101*mega + 1000, 30 * mega, false},
	} {
		if due := d.due(look.ever, look.alive); due != look.due {
			t.Errorf("%s: %v", look.what, due)
		} else if due {
			d.cleaned = look.ever
		}
	}
}
