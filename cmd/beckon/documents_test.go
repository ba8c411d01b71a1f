package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gorilla/websocket"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/beckon-rtc/beckon/cmd/beckon/api"
	"github.com/beckon-rtc/beckon/topics"
)

// document is one of those that the server serves, with its schemas compiled.
type document struct {
	t        testing.TB
	name     string
	text     string
	parsed   map[string]any
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by JSON pointer
}

func parseDocument(t testing.TB, name, text string, draft *jsonschema.Draft) *document {
	t.Helper()
	d := &document{t: t, name: name, text: text, compiler: jsonschema.NewCompiler(), schemas: make(map[string]*jsonschema.Schema)}
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	d.parsed = parsed.(map[string]any)
	d.compiler.DefaultDraft(draft)
	if err := d.compiler.AddResource(name, parsed); err != nil {
		t.Fatal(err)
	}
	return d
}

func openAPIDocument(t testing.TB) *document {
	return parseDocument(t, "openapi.yaml", api.OpenAPI(), jsonschema.Draft2020)
}

func asyncAPIDocument(t testing.TB) *document {
	return parseDocument(t, "asyncapi.yaml", api.AsyncAPI(), jsonschema.Draft7)
}

// at returns what stands at a path of the document, nil if there is nothing. It
// goes on where a reference points to.
func (d *document) at(path ...string) any {
	var here any = d.parsed
	for _, key := range path {
		object, _ := here.(map[string]any)
		if ref, is := object["$ref"].(string); is {
			object, _ = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
		}
		here = object[key]
	}
	if object, _ := here.(map[string]any); object != nil {
		if ref, is := object["$ref"].(string); is {
			return d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
	}
	return here
}

// named are the schemas of components.
func (d *document) named() []string {
	return slices.Sorted(maps.Keys(d.at("components", "schemas").(map[string]any)))
}

// holds demands that text is what a schema of components says.
func (d *document) holds(schema, text string) {
	d.t.Helper()
	if err := d.check("/components/schemas/"+schema, text); err != nil {
		d.t.Errorf("%s of %s does not hold %s:\n%v", schema, d.name, text, err)
	}
}

func (d *document) check(pointer, text string) error {
	s := d.schemas[pointer]
	if s == nil {
		var err error
		if s, err = d.compiler.Compile(d.name + "#" + pointer); err != nil {
			return err
		}
		d.schemas[pointer] = s
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

func TestOpenAPIDocumentIsOne(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData([]byte(api.OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReferencesOfTheDocumentsLeadSomewhereAndSchemasHoldTheirExamples(t *testing.T) {
	for _, d := range []*document{openAPIDocument(t), asyncAPIDocument(t)} {
		for _, m := range regexp.MustCompile(`\$ref: '#/([^']+)'`).FindAllStringSubmatch(d.text, -1) {
			if d.at(strings.Split(m[1], "/")...) == nil {
				t.Errorf("%s: %s leads nowhere", d.name, m[1])
			}
		}
		if strings.Count(d.text, "$ref") != strings.Count(d.text, "$ref: '#/") {
			t.Errorf("%s refers to another file", d.name)
		}
		examples := 0
		for _, name := range d.named() {
			list, _ := d.at("components", "schemas", name).(map[string]any)["examples"].([]any)
			for _, example := range list {
				text, err := json.Marshal(example)
				if err != nil {
					t.Fatal(err)
				}
				d.holds(name, string(text))
				examples++
			}
			_ = d.check("/components/schemas/"+name, "{}") // compiles it, which is what this is about
			if d.schemas["/components/schemas/"+name] == nil {
				t.Errorf("%s of %s is no schema", name, d.name)
			}
		}
		if examples < 30 {
			t.Errorf("%s has %d examples", d.name, examples)
		}
	}
}

func TestSchemasHoldTheMessagesOfTheReadmeAndRefuseOthers(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, d := range []*document{openAPIDocument(t), asyncAPIDocument(t)} {
		for line := range strings.Lines(string(readme)) {
			line = strings.TrimSpace(line)
			kind := "Message"
			if frame, ok := strings.CutPrefix(line, "> "); ok {
				line, kind = frame, "ClientFrame"
			} else if frame, ok := strings.CutPrefix(line, "< "); ok {
				line, kind = frame, "ServerFrame"
			}
			if strings.HasPrefix(line, `{"type":`) {
				d.holds(kind, line)
				counts[kind]++
			}
		}
		for schema, texts := range map[string][]string{
			"Message":     {`{"type":"offer","sdp":""}`, `{"type":"hello"}`, `{"type":"x-"}`, `{"type":"join","room":"garage"}`, `[]`, `{"type":"bye","session":"a b"}`},
			"ClientFrame": {`{"type":"msg","from":"bob"}`, `{"type":"join"}`, `{"type":"error"}`, `{"type":"ok","id":1}`, `{"type":"msg","to":"a/b"}`},
			"ServerFrame": {`{"type":"msg"}`, `{"type":"joined"}`, `{"type":"error","code":418}`, `{"type":"goaway"}`, `{"type":"join","room":"garage"}`},
			"Presence":    {`{"online":1}`, `{"max":0}`, `{"type":"offer"}`, `7`},
		} {
			for _, text := range texts {
				if d.check("/components/schemas/"+schema, text) == nil {
					t.Errorf("%s of %s takes %s", schema, d.name, text)
				}
			}
		}
	}
	if counts["Message"] < 16 || counts["ClientFrame"] < 12 || counts["ServerFrame"] < 16 {
		t.Errorf("the README has %v", counts)
	}
}

func TestSchemasHaveEveryTypeAndEveryCode(t *testing.T) {
	d := asyncAPIDocument(t)
	for _, kind := range typesOfTopics(t) {
		found := false
		for _, name := range d.named() {
			properties, _ := d.at("components", "schemas", name, "properties").(map[string]any)
			of, _ := properties["type"].(map[string]any)
			found = found || of["const"] == kind
		}
		if !found {
			t.Errorf("no schema is of type %q", kind)
		}
	}
	var codes, reasons []string
	for _, c := range topics.Codes() {
		codes, reasons = append(codes, strconv.Itoa(int(c))), append(reasons, c.Reason())
	}
	if got := d.at("components", "schemas", "Error", "properties", "code", "enum"); fmt.Sprint(got) != fmt.Sprint(codes) {
		t.Errorf("the codes of an error are %v, want %v", got, codes)
	}
	if got := d.at("components", "schemas", "Reason", "enum"); fmt.Sprint(got) != fmt.Sprint(reasons) {
		t.Errorf("the reasons are %v, want %v", got, reasons)
	}
}

// typesOfTopics reads the constants Type... of package topics.
func typesOfTopics(t *testing.T) (types []string) {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), "../../topics/message.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Type") && len(v.Values) == 1 {
			if text, ok := v.Values[0].(*ast.BasicLit); ok {
				kind, _ := strconv.Unquote(text.Value)
				types = append(types, kind)
			}
		}
		return true
	})
	if len(types) < 9 {
		t.Fatalf("package topics has the types %v", types)
	}
	return types
}

func TestOpenAPIDocumentHasTheRoutesOfTheServerAndNoOthers(t *testing.T) {
	source, err := os.ReadFile("http.go")
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t)
	paths := openAPIDocument(t).at("paths").(map[string]any)
	routed := func(path, pattern string) bool {
		return path == pattern || pattern != "/" && strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern)
	}
	var patterns []string
	for _, m := range regexp.MustCompile(`\w+\.Handle\("([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		patterns = append(patterns, m[1])
		if !slices.ContainsFunc(slices.Collect(maps.Keys(paths)), func(path string) bool { return routed(path, m[1]) }) {
			t.Errorf("the document does not have %s", m[1])
		}
	}
	if len(patterns) < 8 {
		t.Fatalf("http.go has the routes %v", patterns)
	}
	for path := range paths {
		if !slices.ContainsFunc(patterns, func(pattern string) bool { return routed(path, pattern) }) {
			t.Errorf("the server does not have %s", path)
			continue
		}
		if path == "/api/v1/tokens" { // not with --dev
			continue
		}
		real := strings.NewReplacer("{room}", "garage", "{peer}", "cam1", "{me}", "alice", "{key}", "none").Replace(path)
		answer, err := http.Post(s.URL+real, "text/plain", nil) // which all that take it refuse to join by
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if keyed := strings.HasSuffix(path, "{key}"); answer.StatusCode == http.StatusNotFound && !keyed {
			t.Errorf("the server has nothing at %s", real)
		}
	}
}

// answered demands that an answer of the server is in the document.
func (d *document) answered(method, path string, status int, header http.Header, body string) {
	d.t.Helper()
	path, _, _ = strings.Cut(path, "?")
	for template, item := range d.at("paths").(map[string]any) {
		is := regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), "[^/]+") + "$")
		if !is.MatchString(path) {
			continue
		}
		pointer := []string{"paths", template, strings.ToLower(method)}
		if item.(map[string]any)[pointer[2]] == nil {
			if status != http.StatusMethodNotAllowed && method != http.MethodOptions && method != http.MethodHead {
				d.t.Errorf("%s of %s, which answers %d, is not in the document", method, template, status)
			}
			return
		}
		answer := append(pointer, "responses", strconv.Itoa(status)) // "default" would do for anything
		if d.at(answer...) == nil {
			d.t.Errorf("%s %s answers %d, which is not in the document", method, template, status)
			return
		}
		kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
		content, _ := d.at(append(answer, "content")...).(map[string]any)
		media, _ := content[kind].(map[string]any)
		switch schema, _ := media["schema"].(map[string]any); {
		case content == nil && body == "":
		case schema == nil:
			d.t.Errorf("%s %s answers %d with %s, the document has %v", method, template, status, kind, slices.Sorted(maps.Keys(content)))
		case strings.HasSuffix(kind, "json"):
			ref, _ := schema["$ref"].(string)
			if err := d.check(strings.TrimPrefix(ref, "#"), body); err != nil {
				d.t.Errorf("%s %s answers %d %s:\n%v", method, template, status, body, err)
			}
		}
		return
	}
	if status != http.StatusNotFound {
		d.t.Errorf("%s is not in the document, and answers %d", path, status)
	}
}

func TestAnswersOverHTTPAreInTheDocument(t *testing.T) {
	s := startSite(t)
	alice := s.caller(t, sseHTTP, "alice", "garage")
	cam := s.caller(t, mqtt5TCP, "cam1", "garage")
	cam.sees("alice")
	d := openAPIDocument(t)
	const peers = "/api/v1/rooms/garage/peers"
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
	}{
		{"GET", "/api/v1/rooms", "", "", 200},
		{"HEAD", "/api/v1/rooms", "", "", 200},
		{"PUT", "/api/v1/rooms", "", "", 405},
		{"GET", peers, "", "", 200},
		{"GET", "/api/v1/rooms/a+b/peers", "", "", 400},
		{"GET", "/api/v1/rooms/empty/peers", "", "", 200},
		{"GET", peers + "/bob/events?presence=7", "", "", 400},
		{"OPTIONS", peers + "/bob/events", "", "", 204},
		{"GET", peers + "/observer/events", "", "", 403},
		{"POST", peers + "/alice/messages", "application/json", `{"type":"msg","to":"cam1"}`, 202},
		{"POST", peers + "/alice/messages", "application/json", `{"type":"msg","to":"nobody"}`, 404},
		{"POST", peers + "/alice/messages", "application/json", `{"type":"msg","data":"` + strings.Repeat("x", 70000) + `"}`, 413},
		{"POST", peers + "/alice/messages", "application/json", `{"type":7}`, 400},
		{"POST", peers + "/bob/messages", "application/json", `{"type":"msg"}`, 403},
		{"POST", peers + "/alice/messages", "text/plain", `{}`, 415},
		{"GET", "/api/v1/nothing", "", "", 404},
		{"GET", "/healthz", "", "", 200},
		{"GET", "/readyz", "", "", 200},
		{"POST", "/readyz", "", "", 405},
		{"GET", "/", "", "", 200},
		{"GET", "/ws", "", "", 400},
		{"GET", "/mqtt", "", "", 426},
		{"GET", "/api/openapi.yaml", "", "", 200},
		{"GET", "/api/asyncapi.yaml", "", "", 200},
	} {
		r, err := http.NewRequest(c.method, s.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != c.status {
			t.Errorf("%s %s %.60s answers %d, want %d", c.method, c.path, c.body, answer.StatusCode, c.status)
		}
		d.answered(c.method, c.path, answer.StatusCode, answer.Header, string(text))
		if strings.HasSuffix(c.path, ".yaml") && !strings.Contains(string(text), "\n    Offer:\n") {
			t.Errorf("%s does not have the schemas", c.path)
		}
	}
	cam.until("the message", func(e event) bool { return e.kind == "message" && e.from == "alice" })
	alice.leave()
}

func TestAnswersOfWHEPAreInTheDocument(t *testing.T) {
	s := startSite(t)
	cam := s.caller(t, mqtt5TCP, "cam1", "garage")
	d := openAPIDocument(t)
	ask := func(status int, method, path, body string, header ...string) *http.Response {
		t.Helper()
		answer, text := request(t, method, s.URL+path, body, header...)
		if answer.StatusCode != status {
			t.Errorf("%s %s answers %d, want %d: %s", method, path, answer.StatusCode, status, text)
		}
		d.answered(method, path, answer.StatusCode, answer.Header, text)
		return answer
	}
	sdp, fragment := []string{"Content-Type", "application/sdp"}, []string{"Content-Type", "application/trickle-ice-sdpfrag"}
	for path, offer := range map[string]string{"/whep/garage/cam1": whepOffer, "/whip/garage/cam1": strings.Replace(whepOffer, "recvonly", "sendonly", 1)} {
		opened := make(chan *http.Response, 1)
		go func() { opened <- ask(201, "POST", path, offer, sdp...) }()
		cam.answersOne()
		session := (<-opened).Header.Get("Location")
		if session == "" {
			t.Fatalf("%s opened no session", path)
		}
		ask(204, "PATCH", session, "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n", fragment...)
		ask(415, "PATCH", session, "x", sdp...)
		ask(400, "PATCH", session, "nonsense", fragment...)
		ask(412, "PATCH", session, "a=end-of-candidates\r\n", append(fragment, "If-Match", `"other"`)...)
		ask(200, "DELETE", session, "")
		ask(404, "DELETE", session, "")
		ask(415, "POST", path, "x", "Content-Type", "text/plain")
		ask(400, "POST", path, "x", sdp...)
		ask(413, "POST", path, strings.Repeat("v=0\r\n", 20000), sdp...)
		ask(422, "POST", path, "v=0\r\n", sdp...)
		ask(404, "POST", path+"no", offer, sdp...)
		ask(400, "POST", "/whep/a+b/cam1", offer, sdp...)
		ask(405, "GET", path, "")
		ask(204, "OPTIONS", path, "")
	}
}

func TestAnswerOfAStrictWHEPIsInTheDocument(t *testing.T) {
	s := startSite(t, "--whip-strict")
	session, _, _ := s.whep(t, s.caller(t, mqtt5TCP, "cam1", "garage"))
	answer, text := request(t, "PATCH", session, "a=end-of-candidates\r\n", "Content-Type", "application/trickle-ice-sdpfrag")
	if answer.StatusCode != http.StatusPreconditionRequired {
		t.Errorf("without If-Match: %d %s", answer.StatusCode, text)
	}
	openAPIDocument(t).answered("PATCH", strings.TrimPrefix(session, s.URL), answer.StatusCode, answer.Header, text)
}

// holdsEvents demands that each line is what comes on an event stream, and that all of
// the words came.
func (d *document) holdsEvents(lines string, words ...string) {
	d.t.Helper()
	for frame := range strings.Lines(lines) {
		d.holds("EventFrame", frame)
	}
	for _, w := range words {
		if !strings.Contains(lines, w) {
			d.t.Errorf("the stream does not tell of %s:\n%s", w, lines)
		}
	}
}

// socketFrames is a WebSocket whose frames, both ways, are held against a document.
type socketFrames struct {
	*document
	ws   *websocket.Conn
	seen int
}

func (s *site) socketFrames(d *document) *socketFrames {
	d.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(s.WS, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { ws.Close() })
	return &socketFrames{document: d, ws: ws}
}

func (f *socketFrames) send(frame string) {
	f.t.Helper()
	f.holds("ClientFrame", frame)
	if err := f.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		f.t.Fatal(err)
	}
}

// until reads frames until one has these words, and returns it.
func (f *socketFrames) until(words string) string {
	f.t.Helper()
	_ = f.ws.SetReadDeadline(time.Now().Add(atMost))
	for {
		_, frame, err := f.ws.ReadMessage()
		if err != nil {
			f.t.Fatalf("waited in vain for %s: %v", words, err)
		}
		f.seen++
		f.holds("ServerFrame", string(frame))
		if strings.Contains(string(frame), words) {
			return string(frame)
		}
	}
}

func TestEveryFrameAndPayloadOfACallIsInTheDocuments(t *testing.T) {
	t.Parallel()
	for _, d := range []*document{openAPIDocument(t), asyncAPIDocument(t)} {
		t.Run(d.name, func(t *testing.T) {
			d.t = t
			s := startSite(t, "--ice-server=stun:stun.example", "--grace=200ms")
			observer := s.connect(t, mqtt5TCP, "observer")
			subscribe(t, observer, "rtc/v1/garage/#")
			cam := s.caller(t, mqtt3TCP, "cam1", "garage")
			told := new(logs)
			s.told = told
			bob := s.caller(t, sseHTTP, "bob", "garage")
			alice := s.socketFrames(d)
			alice.send(`{"type":"join","id":1,"room":"garage","peer":"alice","presence":{"name":"Alice"}}`)
			var joined struct{ Resume string }
			if err := json.Unmarshal([]byte(alice.until(`"joined"`)), &joined); err != nil {
				t.Fatal(err)
			}
			for _, frame := range []string{
				`{"type":"presence","presence":{"name":"Alice","muted":true}}`,
				`{"type":"ping","id":"p"}`,
				`{"type":"ice","to":"_","id":2}`,
				`{"type":"offer","id":3,"to":"cam1","session":"k3","sdp":"v=0\r\n"}`,
				`{"type":"candidate","to":"cam1","session":"k3","candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}`,
				`{"type":"candidate","to":"cam1","session":"k3","candidate":""}`,
				`{"type":"x-light","data":[]}`,
				`{"type":"offer","id":4,"to":"nobody","session":"k4","sdp":""}`,
				`{"type":"refresh","id":5,"token":"none"}`,
			} {
				alice.send(frame)
			}
			alice.until(`"id":5`)
			cam.until("the offer", func(e event) bool { return strings.Contains(e.text, `"offer"`) })
			cam.send("alice", `{"type":"answer","session":"k3","sdp":"v=0\r\n"}`, `{"type":"candidate","session":"k3","candidate":""}`, `{"type":"bye","session":"k3","reason":"hangup"}`)
			alice.until(`"bye"`)
			bob.send("", `{"type":"msg","data":{"ptz":"left"}}`)
			alice.until(`"all":true`)
			bob.send("alice", `{"type":"start","session":"k5","video":"recvonly"}`)
			alice.until(`"start"`)
			bob.leave()
			if d.name == "openapi.yaml" {
				d.holdsEvents(told.String(), `"joined"`, `"presence"`, `"from":"alice"`, `"x-light"`)
			}
			alice.until(`"reason":"gone"`)
			alice.until(`"presence":null`)
			again := s.socketFrames(d)
			again.send(fmt.Sprintf(`{"type":"join","room":"garage","peer":"alice","resume":%q,"seen":%d}`, joined.Resume, alice.seen))
			again.until(`"resumed":true`)
			last := s.socketFrames(d)
			last.send(`{"type":"join","room":"garage","peer":"alice","resume":"long ago","seen":7}`)
			last.until(`"resumed":false`)
			again.until(`"replaced"`)
			last.send(`{"type":"leave","id":6}`)
			last.until(`"ok"`)
			last.send(`{"type":"join","room":"garage"}`)
			last.until(`"joined"`)
			cam.send("nobody", `{"type":"msg"}`)
			cam.until("that it is told", func(e event) bool {
				if e.kind != "presence" {
					d.holds("Message", e.text)
				}
				return e.kind == "error"
			})
			stopped := make(chan error, 1)
			go func() { stopped <- s.Stop() }()
			last.until(`"goaway"`)
			last.ws.Close()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			held := 0
			for _, c := range []*caller{observer, cam} {
				for len(c.events) > 0 {
					e := <-c.events
					held++
					switch {
					case e.gone():
					case e.kind == "presence":
						d.holds("AnnouncedPresence", e.text)
					default:
						d.holds("Message", e.text)
					}
				}
			}
			if held < 20 {
				t.Errorf("%d payloads were seen", held)
			}
		})
	}
}
