package topics

// Reading is a message that was read, once: its text, and what is to be known of it,
// its mistakes among that. Only [Read] makes one of a text, so who is handed one knows
// that the text was looked at to its end, and need not do it again. The zero Reading
// is of no message.
type Reading struct {
	text   []byte
	cut    [3]Member // of text, in its order; no part of the message
	cuts   int
	known  Message
	syntax bool   // wrong says why the text cannot be read
	wrong  *Error // the first mistake, of those for which no address is needed
}

// Read reads text. Each member is shown to take, unless that is nil, which reports
// whether the message goes without it; no more than three of them. The error (400)
// says why the text cannot be read; of other mistakes tells [Reading.Check].
func Read(text []byte, take func(Member) (cut bool)) (Reading, error) {
	r := Reading{text: text}
	for m, err := range Members(text) {
		switch {
		case err != nil:
			r.syntax, r.wrong = true, AsError(err)
			return r, err
		case take == nil || !take(m):
			r.member(m)
		case r.cuts == len(r.cut):
			r.note("%q is one routing member more than there can be", m.Name)
		default:
			r.cut[r.cuts] = m
			r.cuts++
		}
	}
	return r, nil
}

// note keeps the first mistake; reading goes on to tell the session.
func (r *Reading) note(format string, args ...any) {
	if r.wrong == nil {
		r.wrong = Errorf(BadRequest, format, args...)
	}
}

func (r *Reading) member(m Member) {
	switch string(m.Name) {
	case "type":
		if r.known.Type != "" {
			r.note(`"type" is given twice`)
		}
		r.known.Type = typeOf(m)
		if r.known.Type == "" {
			r.note(`"type" must be a text that is not empty`)
		}
	case "session":
		if r.known.Session != "" {
			r.note(`"session" is given twice`)
		}
		s, ok := m.Text()
		if !ok || !validSession(s) {
			r.note(`"session" must be a text of 1 to 64 letters, digits, '_' and '-', not %s`, quote(string(m.Value)))
			return
		}
		r.known.Session = s
	default:
		r.known.Routed = r.known.Routed || Routing(m.Name)
	}
}

// Known is what is to be known of the message, as far as it was understood.
func (r *Reading) Known() Message { return r.known }

// Text is the text of the message, without what was cut, every other byte as it was.
// It is a text of its own.
func (r *Reading) Text() []byte { return Without(r.text, r.cut[:r.cuts]) }

// Check checks the message for a, whose kind is Direct or All, and returns what is to
// be known of it. The error is an [*Error] (400) that already says which message it is
// about, as far as it was understood.
func (r *Reading) Check(a Address) (Message, error) {
	wrong := r.wrong
	if r.known.Routed && !r.syntax {
		wrong = r.checkRouting(a, wrong)
	}
	if wrong == nil {
		wrong = r.known.check(a)
	}
	if wrong == nil {
		return r.known, nil
	}
	m := r.known
	if len(m.Type) > MaxName { // too long to be one: the answer would be as long as the message
		m.Type = ""
	}
	return m, wrong.Of(m, a.Dst)
}

// checkRouting compares what the message says of its way with a. That is in few
// messages, so they may be read once more.
func (r *Reading) checkRouting(a Address, wrong *Error) *Error {
	for m := range Members(r.Text()) {
		switch string(m.Name) {
		case "from", "to", "room":
			if want := a.member(m.Name); wrong == nil && !m.is(want) {
				wrong = Errorf(BadRequest, "%q in the message is %s, but the topic says %q", m.Name, quote(string(m.Value)), want)
			}
		}
	}
	return wrong
}
