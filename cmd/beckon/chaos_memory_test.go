package main

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// memory is what a survivor that resumes knows of its session, from one connection
// to the next.
type memory struct {
	line    *lineJSON // the newest
	key     string
	seen    int  // frames it got
	resumed bool // the newest goes on where the one before ended
	times   int  // that one did
}

// resume has a new connection go on where the one before ended. The answers to
// requests of that one are no answers to those of this one.
func (m *memory) resume(l *lineJSON) {
	l.more = `,"resume":true`
	if m.key != "" {
		l.more = fmt.Sprintf(`,"resume":%q,"seen":%d`, m.key, m.seen)
	}
	before, first := 0, true
	if m.line != nil {
		before = m.line.lastID
	}
	m.line, l.lastID, m.resumed = l, before, false
	l.known = func(frame string) bool {
		var f struct {
			Type, Resume string
			Resumed      bool
			ID           json.RawMessage
		}
		_ = json.Unmarshal([]byte(frame), &f)
		if first && f.Type == "joined" {
			m.key = f.Resume
			if m.resumed = f.Resumed; m.resumed {
				m.times++
			} else {
				m.seen = 1
			}
			first = false
			return false
		}
		m.seen++
		id, err := strconv.Atoi(string(f.ID))
		return err == nil && id <= before
	}
}
