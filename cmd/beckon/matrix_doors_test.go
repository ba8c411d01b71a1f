package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// This is row 3 of package threat: each of principals tries each of verbs in each
// of matrixRooms at each of matrixDoors. To add one, add a line.

// principal is who tries.
type principal struct {
	who   string
	name  string // in the credentials
	shows string // "password", "wrong password", "token", "expired token", or nothing
	role  string // as section 2 has it
	rooms string // where: a name, the beginning of names and "*", or "*"
}

var principals = []principal{
	{"nobody", "", "", "", ""},
	{"wrong password", "wanda", "wrong password", "peer", "garage"},
	{"expired token", "ines", "expired token", "peer", "garage"},
	{"peer of garage", "pete", "password", "peer", "garage"},
	{"viewer of cam1", "vera", "password", "viewer", "garage"},
	{"observer", "otto", "password", "observer", "garage"},
	{"admin of all", "ada", "password", "admin", "*"},
	{"peer of fleet-*", "fred", "password", "peer", "fleet-*"},
	{"device cam1", "cam1", "password", "peer", "garage"},
	{"peer of attic", "anna", "password", "peer", "attic"},
	{"token's peer", "tom", "token", "peer", "garage"},
}

var (
	matrixRooms = []string{"garage", "attic", "fleet-7"}
	matrixDoors = []entrance{mqtt3TCP, mqtt5TCP, mqtt3TLS, mqtt5TLS, mqtt3WS, mqtt5WS, jsonWS}
)

// verb is what is tried. Topics and filters are those inside a room, or, with a
// "=" before them, whole. {me} is who tries.
type verb struct {
	what      string
	publish   string // a topic
	subscribe string // a filter, after that
	frame     string // members of the JSON frame; without any, that door does not have the verb
	json      int    // its error, whoever tries; 0: as section 2 has it
}

const matrixJoin = "join"

var verbs = []verb{
	{matrixJoin, "peers/{me}", "to/{me}/+", `"type":"join","presence":{"name":"{mark}"}`, 0},
	{"direct to cam1", "to/cam1/{me}", "", `"type":"msg","to":"cam1","data":"{mark}"`, 0},
	{"direct to alice", "to/alice/{me}", "", `"type":"msg","to":"alice","data":"{mark}"`, 0},
	{"direct to the server", "to/_/{me}", "", `"type":"ice","to":"_","data":"{mark}"`, 0},
	{"to all", "all/{me}", "", `"type":"msg","data":"{mark}"`, 0},
	{"own presence", "peers/{me}", "", `"type":"presence","presence":{"name":"{mark}"}`, 0},
	{"another's presence", "peers/alice", "", "", 0},
	{"speak as another", "to/cam1/alice", "", `"type":"msg","to":"cam1","from":"alice","data":"{mark}"`, 400},
	{"speak as another to all", "all/alice", "", `"type":"msg","from":"alice","data":"{mark}"`, 400},
	{"speak as the server", "to/cam1/_", "", `"type":"msg","to":"cam1","from":"_","data":"{mark}"`, 400},
	{"wake cam1", "wake/cam1", "", "", 0},
	{"own inbox", "", "to/{me}/+", "", 0},
	{"another's inbox", "", "to/alice/+", `"type":"join","peer":"alice","presence":{"name":"{mark}"}`, 403},
	{"another's inbox, shared", "", "$share/g/to/alice/+", "", 0},
	{"all/+", "", "all/+", "", 0},
	{"peers/+", "", "peers/+", "", 0},
	{"peers/cam1", "", "peers/cam1", "", 0},
	{"all of the room", "", "#", "", 0},
	{"all rooms", "", "=rtc/v1/#", "", 0},
	{"everything", "", "=#", "", 0},
}

// section2 is the table of rights of the contract. Of an admin's "as anyone" the
// presence is left out, which is bound to its connection (section 3).
var section2 = map[string]struct{ publish, subscribe []string }{
	"peer":     {[]string{"to/+/{me}", "all/{me}", "peers/{me}"}, []string{"to/{me}/+", "all/+", "peers/+"}},
	"viewer":   {[]string{"to/cam1/{me}", "to/_/{me}", "peers/{me}"}, []string{"to/{me}/+", "peers/cam1"}},
	"observer": {nil, []string{"#"}},
	"admin":    {[]string{"to/+/{anyone}", "all/{anyone}", "peers/{me}"}, []string{"#"}},
}

func (p principal) letIn() bool { return p.shows == "password" || p.shows == "token" }

func (p principal) in(room string) bool {
	beginning, many := strings.CutSuffix(p.rooms, "*")
	return p.letIn() && (p.rooms == room || many && strings.HasPrefix(room, beginning))
}

func (p principal) mayPublish(room, topic string) bool {
	return p.in(room) && slices.ContainsFunc(section2[p.role].publish, func(granted string) bool { return p.within(topic, granted) })
}

func (p principal) maySubscribe(room, filter string) bool {
	if whole, ok := strings.CutPrefix(filter, "="); ok { // rooms that are no one's in particular
		return whole == "rtc/v1/#" && p.rooms == "*" && slices.Contains(section2[p.role].subscribe, "#")
	}
	filter = strings.TrimPrefix(filter, "$share/g/")
	return p.in(room) && slices.ContainsFunc(section2[p.role].subscribe, func(granted string) bool { return p.within(filter, granted) })
}

// within reports whether a grant is as wide as a topic or filter.
func (p principal) within(asked, granted string) bool {
	a, g := strings.Split(p.fill(asked), "/"), strings.Split(p.fill(granted), "/")
	for i := range g {
		switch {
		case g[i] == "#":
			return true
		case i >= len(a), g[i] == "{anyone}" && a[i] == "_", g[i] != "{anyone}" && g[i] != "+" && g[i] != a[i]:
			return false
		}
	}
	return len(a) == len(g)
}

func (p principal) fill(template string) string { return strings.ReplaceAll(template, "{me}", p.name) }

// matches reports whether a topic is what a filter asks for.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i := range f {
		switch {
		case f[i] == "#":
			return true
		case i >= len(t), f[i] != "+" && f[i] != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// cell is one try.
type cell struct {
	principal
	verb
	at   entrance
	room string
	mark string // is in what is said
	got  string // the answer
	by   []string
}

func (c *cell) String() string {
	return fmt.Sprintf("%-20v | %-15s | %-7s | %-23s", c.at, c.who, c.room, c.what)
}

func (c *cell) outcome() string {
	slices.Sort(c.by)
	return strings.TrimSpace(c.got) + "; heard by " + strings.Join(slices.Compact(c.by), " ")
}

// want is what the protocol has come of c, in the words of outcome.
func (c *cell) want() string {
	w := &cell{principal: c.principal}
	allowed := c.publish != "" && c.mayPublish(c.room, c.publish)
	switch {
	case c.at.protocol == "JSON":
		w.got = c.wantJSON(&allowed)
	case !c.letIn():
		w.got = c.forVersion("CONNACK 86", "CONNACK 04")
	default:
		w.got = c.wantMQTT(allowed)
	}
	if allowed {
		w.by = c.hearers()
	}
	return w.outcome()
}

func (c *cell) forVersion(five, three string) string {
	if c.at.protocol == "MQTT 5" {
		return five
	}
	return three
}

func (c *cell) wantJSON(allowed *bool) string {
	joins := strings.Contains(c.frame, `"type":"join"`)
	if c.verb.json != 0 {
		*allowed = false
	}
	switch {
	case !c.letIn() && joins:
		return "error 401, close 4510"
	case c.verb.json != 0:
		return fmt.Sprint("error ", c.verb.json)
	case !*allowed:
		return "error 403"
	}
	return "ok" + c.answered()
}

func (c *cell) wantMQTT(allowed bool) string {
	var answers string
	inbox := c.maySubscribe(c.room, "to/{me}/+")
	if c.publish != "" {
		answers = "PUBACK 00"
		if !allowed {
			answers = c.forVersion("PUBACK 87", "PUBACK 00")
		}
		if !allowed && inbox && c.what != matrixJoin { // where the inbox is opened after that
			answers += " error 403"
		}
		if allowed {
			answers += c.answered()
		}
	}
	if c.subscribe == "" {
		return answers
	}
	granted := c.maySubscribe(c.room, c.subscribe)
	if granted {
		answers += " SUBACK 00"
	} else {
		answers += c.forVersion(" SUBACK 87", " SUBACK 80")
	}
	if c.what == matrixJoin {
		if allowed {
			answers += " hello"
		}
		return answers
	}
	return answers + " got " + strings.Join(c.reads(granted), " ")
}

// answered is what the server says to a question.
func (c *cell) answered() string {
	if c.publish == "to/_/{me}" {
		return " ice"
	}
	return ""
}

// reads is what comes while c's filter stands.
func (c *cell) reads(granted bool) (got []string) {
	filter, shared := strings.CutPrefix(strings.TrimPrefix(c.fill(c.subscribe), "=rtc/v1/"), "$share/g/")
	retained := []string{"peers/alice", "peers/cam1"}
	for _, topic := range append(c.chatter(), retained...) {
		mine := c.joined() && matches("to/"+c.name+"/+", topic)
		if topic == "peers/"+c.name || shared && slices.Contains(retained, topic) {
			continue
		}
		if mine || granted && matches(filter, topic) {
			got = append(got, topic)
		}
	}
	slices.Sort(got)
	return slices.Compact(got)
}

func (c *cell) joined() bool { return c.mayPublish(c.room, "peers/{me}") }

// chatter is what alice says while c's filter stands, all of which arrives.
func (c *cell) chatter() []string {
	said := []string{"to/cam1/alice", "to/alice/alice", "all/alice"}
	if c.joined() {
		said = append(said, "to/"+c.name+"/alice")
	}
	return said
}

// hearers are those for whom what c publishes is.
func (c *cell) hearers() (by []string) {
	topic := c.fill(c.publish)
	if matches("to/_/+", topic) {
		return nil
	}
	for _, name := range []string{"alice", "cam1"} {
		filters := []string{"to/" + name + "/+", "all/+", "peers/+"}
		if name == c.name && c.joined() { // who tries has taken over, and has an inbox only
			filters = filters[:1]
		}
		if slices.ContainsFunc(filters, func(f string) bool { return matches(f, topic) }) {
			by = append(by, name)
		}
	}
	return append(by, "witness")
}

const matrixPassword, matrixSecret = "hunter2 of the matrix", "hunter2: the secret of the matrix's tokens"

// matrix is a server with those who listen in every room: alice and cam1 as
// peers, and a witness of all that happens.
type matrix struct {
	*site
	t                    *testing.T
	alice, cam1, witness *wire
	marks                map[string]*cell
	count                map[entrance]int
	wrong                []string
	sung                 int
}

func startMatrix(t *testing.T) *matrix {
	users := filepath.Join(t.TempDir(), "users.yaml")
	hash := auth.HashPassword(matrixPassword)
	for _, p := range principals {
		if !strings.HasSuffix(p.shows, "password") {
			continue
		}
		account := auth.Account{Name: p.name, Password: hash, Device: p.name == "cam1"}
		g := topics.Grant{Room: p.rooms}
		for g.Role = topics.Peer; g.Role.String() != p.role; g.Role++ {
		}
		if g.Role == topics.Viewer {
			g.Of = "cam1"
		}
		account.Grants = []topics.Grant{g}
		if err := auth.SetUser(users, account); err != nil {
			t.Fatal(err)
		}
	}
	m := &matrix{t: t, marks: make(map[string]*cell), count: make(map[entrance]int)}
	m.site = startSite(t, "--users="+users, "--jwt-key="+writeFile(t, "jwt.key", matrixSecret), "--limit-logins=0")
	rooms, _ := json.Marshal(matrixRooms)
	enter := func(name, role string, version byte) *wire {
		w := m.wire(t, "tcp", version)
		if code, words := w.connect(name, name, matrixToken(t, name, role, string(rooms), time.Hour)); code != 0 {
			t.Fatalf("%s: CONNACK %#x %s", name, code, words)
		}
		return w
	}
	m.alice, m.cam1, m.witness = enter("alice", "peer", 5), enter("cam1", "peer", 4), enter("witness", "observer", 5)
	for _, room := range matrixRooms {
		m.alice.mustSubscribe(room, "to/alice/+", "all/+", "peers/+")
		m.cam1.mustSubscribe(room, "to/cam1/+", "all/+", "peers/+")
		m.witness.mustSubscribe(room, "#")
	}
	return m
}

// matrixToken makes a token, which expired if ttl is negative.
func matrixToken(t testing.TB, name, role, rooms string, ttl time.Duration) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": name, "role": role, "room": json.RawMessage(rooms), "exp": time.Now().Add(ttl).Unix(),
	}).SignedString([]byte(matrixSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (m *matrix) secret(p principal) string {
	switch p.shows {
	case "password":
		return matrixPassword
	case "wrong password":
		return "another " + matrixPassword
	case "token":
		return matrixToken(m.t, p.name, p.role, strconv.Quote(p.rooms), time.Hour)
	case "expired token":
		return matrixToken(m.t, p.name, p.role, strconv.Quote(p.rooms), -time.Second)
	}
	return ""
}

func TestEveryoneMayDoAtEveryDoorInEveryRoomWhatTheProtocolHasAndNothingElse(t *testing.T) {
	threat.Row(t, 1, threat.MQTT|threat.JSON)
	threat.Row(t, 2, threat.MQTT|threat.JSON)
	threat.Row(t, 3, threat.MQTT|threat.JSON)
	m := startMatrix(t)
	for _, at := range matrixDoors {
		for _, p := range principals {
			cells := m.cells(p, at)
			switch {
			case at.protocol == "JSON" && !p.letIn():
				m.refusedJSON(p, cells)
			case at.protocol == "JSON":
				m.tryJSON(p, cells)
			case !p.letIn():
				m.refusedMQTT(p, at, cells)
			default:
				m.tryMQTT(p, at, cells)
			}
			m.collect(p)
			for _, c := range cells {
				if want := c.want(); c.outcome() != want {
					m.wrong = append(m.wrong, fmt.Sprintf("%v | %s | %s", c, c.outcome(), want))
				}
			}
		}
	}
	if len(m.wrong) > 0 {
		t.Errorf("%d cells are wrong: door | who | room | verb | got | want\n%s", len(m.wrong), strings.Join(m.wrong, "\n"))
	}
	var sums []string
	total := 0
	for _, at := range matrixDoors {
		sums = append(sums, fmt.Sprintf("%v %d", at, m.count[at]))
		total += m.count[at]
	}
	t.Logf("%d cells: %s", total, strings.Join(sums, ", "))
}

// cells are all that p tries at a door, verb by verb: so it is in all rooms that
// it can join when it tries the next.
func (m *matrix) cells(p principal, at entrance) (cells []*cell) {
	for _, v := range verbs {
		if at.protocol == "JSON" && v.frame == "" {
			continue
		}
		for _, room := range matrixRooms {
			m.count[at]++
			c := &cell{principal: p, verb: v, at: at, room: room, mark: fmt.Sprintf("mark-%d.", len(m.marks))}
			m.marks[c.mark] = c
			cells = append(cells, c)
		}
	}
	return cells
}

// packets are what c sends by MQTT, 0, 1 or 2 of them.
func (c *cell) packets(w *wire) string {
	var out string
	if c.publish != "" {
		payload := fmt.Sprintf(`{"type":"msg","data":%q}`, c.mark)
		if strings.HasPrefix(c.publish, "peers/") {
			payload = fmt.Sprintf(`{"online":true,"name":%q}`, c.mark)
		} else if c.answered() != "" {
			payload = fmt.Sprintf(`{"type":"ice","data":%q}`, c.mark)
		}
		out = w.publication("rtc/v1/"+c.room+"/"+c.fill(c.publish), payload, strings.HasPrefix(c.publish, "peers/"))
	}
	if c.subscribe != "" {
		out += w.subscription(c.filter())
	}
	return out
}

func (c *cell) filter() string {
	filter := c.fill(c.subscribe)
	if whole, ok := strings.CutPrefix(filter, "="); ok {
		return whole
	}
	if inner, ok := strings.CutPrefix(filter, "$share/g/"); ok {
		return "$share/g/rtc/v1/" + c.room + "/" + inner
	}
	return "rtc/v1/" + c.room + "/" + filter
}

// tryMQTT tries cells on one connection, whose client id is a lie.
func (m *matrix) tryMQTT(p principal, at entrance, cells []*cell) {
	w := m.wire(m.t, at.scheme, versionOf(at))
	if code, words := w.connect("alice", p.name, m.secret(p)); code != 0 {
		m.t.Fatalf("%s is not let in by %v: CONNACK %#x %s", p.who, at, code, words)
	}
	for _, c := range cells {
		answers := w.ask(c.packets(w))
		for _, a := range answers {
			c.got += " " + a.String()
		}
		if c.subscribe == "" || c.what == matrixJoin {
			c.got = strings.TrimSpace(c.got) + w.told(c)
			continue
		}
		m.chat(c)
		last := ""
		if c.what != "own inbox" { // where errors come
			last = w.unsubscription(c.filter())
		}
		w.ask(last)
		var got []string
		for _, h := range w.take() {
			if topic, ok := strings.CutPrefix(h.topic, "rtc/v1/"+c.room+"/"); ok {
				got = append(got, topic)
			}
		}
		slices.Sort(got)
		c.got += " got " + strings.Join(slices.Compact(got), " ")
	}
	w.leave()
}

// told is what the server said to c's inbox; what others said is heard.
func (w *wire) told(c *cell) (told string) {
	for _, h := range w.take() {
		if h.topic != "rtc/v1/"+c.room+"/to/"+c.name+"/_" {
			c.hear(c.name, h)
			continue
		}
		told += " " + kindOf(h.payload)
	}
	return told
}

// kindOf is what the server says, in short.
func kindOf(payload string) string {
	var said struct {
		Type string
		Code int
	}
	_ = json.Unmarshal([]byte(payload), &said)
	if said.Code != 0 {
		return fmt.Sprint(said.Type, " ", said.Code)
	}
	return said.Type
}

// hear notes that somebody got what c said; where is shown when it is wrong.
func (c *cell) hear(who string, h heard) {
	if h.topic != "rtc/v1/"+c.room+"/"+c.fill(c.publish) {
		who += "(" + h.topic + ")"
	}
	c.by = append(c.by, who)
}

// chat has alice say something to everyone for whom a filter of c could be.
func (m *matrix) chat(c *cell) {
	var out string
	for _, topic := range c.chatter() {
		out += m.alice.publication("rtc/v1/"+c.room+"/"+topic, `{"type":"msg","data":"chatter"}`, false)
	}
	for _, a := range m.alice.ask(out) {
		if a.code != 0 {
			m.t.Fatalf("%v: alice is refused, %v", c, a)
		}
	}
}

// refusedMQTT has p connect, and then once more with all packets of the cells
// right after the CONNECT, as MQTT allows.
func (m *matrix) refusedMQTT(p principal, at entrance, cells []*cell) {
	w := m.wire(m.t, at.scheme, versionOf(at))
	code, _ := w.connect("alice", p.name, m.secret(p))
	if !w.ended() {
		m.t.Errorf("%s by %v: the connection stays", p.who, at)
	}
	w = m.wire(m.t, at.scheme, versionOf(at))
	packets := w.connection("alice", p.name, m.secret(p))
	for _, c := range cells {
		packets += c.packets(w)
		c.got = fmt.Sprintf("CONNACK %02x", code)
	}
	_, _ = io.WriteString(w.conn, packets) // it may be closed by now
	for {
		kind, body, err := w.read()
		if err != nil {
			return
		}
		if kind>>4 != 2 || body[1] != code { // a CONNACK
			m.t.Errorf("%s by %v is answered % x %q", p.who, at, kind, body)
		}
	}
}

// tryJSON tries cells on one connection.
func (m *matrix) tryJSON(p principal, cells []*cell) {
	f := m.frames(p)
	for _, c := range cells {
		f.try(c)
	}
	f.leave()
}

// refusedJSON tries all but joins before the first join, room by room.
func (m *matrix) refusedJSON(p principal, cells []*cell) {
	var f *frames
	for _, c := range cells {
		if f == nil {
			f = m.frames(p)
		}
		f.try(c)
		if f.ended {
			f = nil
		}
	}
}

// collect has a canary sing in every room, and notes who heard what until then.
func (m *matrix) collect(p principal) {
	m.t.Helper()
	if p.name == "cam1" && p.letIn() { // it took over
		for _, room := range matrixRooms {
			m.cam1.mustSubscribe(room, "to/cam1/+", "all/+", "peers/+")
		}
	}
	m.sung++
	song := fmt.Sprintf(`{"type":"msg","data":"canary %d"}`, m.sung)
	var out string
	for _, room := range matrixRooms {
		for _, to := range []string{"alice", "cam1"} {
			out += m.alice.publication("rtc/v1/"+room+"/to/"+to+"/alice", song, false)
		}
	}
	m.alice.ask(out)
	for _, r := range []struct {
		name  string
		w     *wire
		songs int
	}{{"alice", m.alice, 1}, {"cam1", m.cam1, 1}, {"witness", m.witness, 2}} {
		songs := r.songs * len(matrixRooms)
		for at := 0; songs > 0; at++ {
			for at == len(r.w.heard) {
				if kind, body, err := r.w.read(); err != nil {
					m.t.Fatalf("after %s, %s misses the canary: % x %q %v", p.who, r.name, kind, body, err)
				}
			}
			h := r.w.heard[at]
			if h.payload == song {
				songs--
			}
			if mark := marks.FindString(h.payload); mark != "" {
				m.marks[mark].hear(r.name, h)
			}
		}
		r.w.take()
	}
}

var marks = regexp.MustCompile(`mark-\d+\.`)

// wire is an MQTT connection of which every packet is seen, in its order.
type wire struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	version byte
	lastID  uint16
	heard   []heard
}

// heard is a PUBLISH that came.
type heard struct{ topic, payload string }

// acked is the answer to a PUBLISH or SUBSCRIBE.
type acked struct {
	kind byte
	code byte
	body string
}

func (a acked) String() string {
	names := map[byte]string{4: "PUBACK", 9: "SUBACK", 11: "UNSUBACK", 14: "DISCONNECT"}
	return fmt.Sprintf("%s %02x", names[a.kind>>4], a.code)
}

func versionOf(at entrance) byte {
	if at.protocol == "MQTT 5" {
		return 5
	}
	return 4
}

func (s *site) wire(t testing.TB, scheme string, version byte) *wire {
	t.Helper()
	conn, err := s.open(scheme)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(3 * atMost))
	return &wire{t: t, conn: conn, in: bufio.NewReader(conn), version: version}
}

// mqttPacket is packet, of any length.
func mqttPacket(header byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string(binary.AppendUvarint([]byte{header}, uint64(len(body)))) + body
}

func mqttText(s string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
}

// none is the length of no properties, in the version that has them.
func (w *wire) none() string {
	if w.version == 5 {
		return "\x00"
	}
	return ""
}

func (w *wire) id() string {
	w.lastID++
	return string(binary.BigEndian.AppendUint16(nil, w.lastID))
}

func (w *wire) connection(id, user, password string) string {
	flags, credentials := byte(0x02), ""
	if user != "" {
		flags |= 0x80
		credentials += mqttText(user)
	}
	if password != "" {
		flags |= 0x40
		credentials += mqttText(password)
	}
	return mqttPacket(0x10, mqttText("MQTT"), string([]byte{w.version, flags, 0, 60}), w.none(), mqttText(id), credentials)
}

func (w *wire) publication(topic, payload string, retain bool) string {
	header := byte(0x32)
	if retain {
		header |= 1
	}
	return mqttPacket(header, mqttText(topic), w.id(), w.none(), payload)
}

// subscription has QoS 0, so that nothing need be acknowledged.
func (w *wire) subscription(filter string) string {
	return mqttPacket(0x82, w.id(), w.none(), mqttText(filter), "\x00")
}

func (w *wire) unsubscription(filter string) string {
	return mqttPacket(0xa2, w.id(), w.none(), mqttText(filter))
}

// connect returns the code of the CONNACK, and what stands in it.
func (w *wire) connect(id, user, password string) (code byte, body string) {
	w.t.Helper()
	_, _ = io.WriteString(w.conn, w.connection(id, user, password))
	kind, body, err := w.read()
	if err != nil || kind != 0x20 {
		w.t.Fatalf("CONNACK % x %q %v", kind, body, err)
	}
	return body[1], body
}

// read reads a packet. A PUBLISH is heard.
func (w *wire) read() (kind byte, body string, err error) {
	if kind, err = w.in.ReadByte(); err != nil {
		return 0, "", err
	}
	length, err := binary.ReadUvarint(w.in)
	if err != nil {
		return 0, "", err
	}
	all := make([]byte, length)
	if _, err := io.ReadFull(w.in, all); err != nil {
		return 0, "", err
	}
	if kind>>4 == 3 {
		topic, payload := all[2:2+binary.BigEndian.Uint16(all)], all[2+binary.BigEndian.Uint16(all):]
		if kind&6 != 0 {
			payload = payload[2:]
		}
		if w.version == 5 {
			payload = payload[1+int(payload[0]):] // fewer than 128 bytes of properties
		}
		w.heard = append(w.heard, heard{string(topic), string(payload)})
	}
	return kind, string(all), nil
}

// ask sends packets, and returns their answers: all that comes until the answer
// to a PINGREQ after them. When the server ends the connection instead, the last
// is the DISCONNECT of version 5, or one of code 0.
func (w *wire) ask(packets string) (answers []acked) {
	w.t.Helper()
	_, _ = io.WriteString(w.conn, packets+"\xc0\x00")
	for {
		kind, body, err := w.read()
		if err != nil {
			if len(answers) == 0 || answers[len(answers)-1].kind != 0xe0 {
				answers = append(answers, acked{kind: 0xe0})
			}
			return answers
		}
		a := acked{kind: kind, body: body}
		switch kind >> 4 {
		case 13:
			return answers
		case 4:
			if len(body) > 2 {
				a.code = body[2]
			}
		case 9:
			a.code = body[len(body)-1]
		case 14:
			if len(body) > 0 {
				a.code = body[0]
			}
		case 3:
			continue
		}
		answers = append(answers, a)
	}
}

func (w *wire) mustSubscribe(room string, filters ...string) {
	w.t.Helper()
	for _, f := range filters {
		if a := w.ask(w.subscription("rtc/v1/" + room + "/" + f)); len(a) != 1 || a[0].code != 0 {
			w.t.Fatalf("%s in %s: %v", f, room, a)
		}
	}
}

// take returns what was heard since it was last called.
func (w *wire) take() []heard {
	h := w.heard
	w.heard = nil
	return h
}

// ended reports whether the server ends the connection, without another packet.
func (w *wire) ended() bool {
	_, _, err := w.read()
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

// leave says DISCONNECT, and waits until the server has closed.
func (w *wire) leave() {
	_, _ = io.WriteString(w.conn, "\xe0\x00")
	for {
		if _, _, err := w.read(); err != nil {
			return
		}
	}
}

// frames is a connection of JSON, of which every frame is seen, in its order.
type frames struct {
	m     *matrix
	ws    *websocket.Conn
	id    int
	ended bool
}

func (m *matrix) frames(p principal) *frames {
	m.t.Helper()
	header := http.Header{}
	switch {
	case strings.HasSuffix(p.shows, "token"):
		header.Set("Authorization", "Bearer "+m.secret(p))
	case p.shows != "":
		(&http.Request{Header: header}).SetBasicAuth(p.name, m.secret(p))
	}
	ws, _, err := websocket.DefaultDialer.Dial(m.WS, header)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(3 * atMost))
	return &frames{m: m, ws: ws}
}

// try sends the frame of c, and reads until the answer to a ping after it.
func (f *frames) try(c *cell) {
	f.m.t.Helper()
	f.id++
	frame := strings.NewReplacer("{mark}", c.mark, "{me}", c.name).Replace(c.frame)
	for _, text := range []string{fmt.Sprintf(`{"id":%d,"room":%q,%s}`, f.id, c.room, frame), `{"type":"ping"}`} {
		_ = f.ws.WriteMessage(websocket.TextMessage, []byte(text)) // its reader sees what is wrong
	}
	told := ""
	for {
		_, text, err := f.ws.ReadMessage()
		if err != nil {
			if closed, ok := err.(*websocket.CloseError); ok {
				told += fmt.Sprintf(", close %d", closed.Code)
			}
			f.ended = true
			break
		}
		var said struct {
			Type, Room, From string
			ID, Code         int
		}
		_ = json.Unmarshal(text, &said)
		switch {
		case said.ID == f.id && said.Type == "error":
			c.got = fmt.Sprint("error ", said.Code)
		case said.ID == f.id:
			c.got = "ok"
		case said.From == topics.Server, said.Type == "error":
			told += " " + kindOf(string(text))
		case strings.Contains(string(text), c.mark):
			c.hear(c.name, heard{"rtc/v1/" + said.Room + "/to/" + c.name + "/" + said.From, string(text)})
		}
		if said.Type == "pong" || !c.letIn() && said.Type == "error" && said.ID == 0 {
			break // before a join the ping has no answer but an error
		}
	}
	c.got += told
	if !c.letIn() {
		c.got = strings.TrimSuffix(c.got, " error 403") // of the ping
	}
}

func (f *frames) leave() {
	_ = f.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	for {
		if _, _, err := f.ws.ReadMessage(); err != nil {
			return
		}
	}
}
