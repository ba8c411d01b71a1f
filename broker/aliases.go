package broker

// mostAliases is how many topics of a client have a number at most. It is an
// inbox's callers and a room's peers that come again and again.
const mostAliases = 16

// aliases are the numbers that stand for topics in what is sent to a client of MQTT 5
// that takes them (3.3.2.3.4). The first topics have them until the connection ends.
type aliases struct {
	most uint16 // how many there may be; 0: the client takes none
	of   map[string]uint16
}

// find returns the alias of a topic, and whether the client knows it yet; 0 if the
// topic has none and can have none.
func (a *aliases) find(topic string) (alias uint16, known bool) {
	if alias = a.of[topic]; alias > 0 {
		return alias, true
	}
	if n := uint16(len(a.of)); n < a.most {
		return n + 1, false
	}
	return 0, false
}

// keep notes that the client has been told of an alias.
func (a *aliases) keep(topic string, alias uint16) {
	if a.of == nil {
		a.of = make(map[string]uint16)
	}
	a.of[topic] = alias
}
