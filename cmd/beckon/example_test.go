package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var keyOfExample = regexp.MustCompile(`(?m)^(# )?([a-z0-9-]+): (.+)$`)

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/beckon.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExampleFileHasEverySettingOnceWithItsDefault(t *testing.T) {
	given := map[string]bool{"users": true, "tls-cert": true, "tls-key": true, "listen": true} // without a default of kong's
	seen := make(map[string]int)
	value := make(map[string]string)
	for _, m := range keyOfExample.FindAllStringSubmatch(readExample(t), -1) {
		seen[m[2]]++
		if m[1] == "" {
			value[m[2]] = m[3]
		}
	}
	for _, flag := range flagsOf(t) {
		name := flag.Name
		if name == "config" || name == "help" {
			continue
		}
		if seen[name] != 1 {
			t.Errorf("%s stands in it %d times", name, seen[name])
		}
		delete(seen, name)
		want := flag.Default
		if flag.IsBool() {
			want = "false"
		}
		if value[name] != want && !given[name] {
			t.Errorf("%s is %q, its default is %q", name, value[name], want)
		}
	}
	for name := range seen {
		t.Errorf("%s is no setting", name)
	}
}

func TestExampleFileLoadsButForTheFilesThatAreNotThere(t *testing.T) {
	example := readExample(t)
	all := keyOfExample.ReplaceAllString(example, "$2: $3")
	for name, text := range map[string]string{"as it is": example, "with every key": all} {
		c := parse(t, "serve", "--config", writeFile(t, "beckon.yaml", text))
		if len(c.Serve.file.wrong) > 0 {
			t.Errorf("%s: %v", name, c.Serve.file.wrong)
		}
	}
	var stderr bytes.Buffer
	if code := run([]string{"serve", "--config", "../../examples/beckon.yaml"}, &stderr, &stderr); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(stderr.String()) {
		if !strings.Contains(line, "/etc/beckon/") || !strings.Contains(line, "no such file") {
			t.Errorf("it says %s", line)
		}
	}
}

func TestServersOfTheExamplesAnswerForAnyPath(t *testing.T) {
	for _, name := range []string{"whep-player", "browser-mqtt"} {
		at := strings.TrimSuffix(strings.TrimPrefix(servePage(t, name), "http://"), "/")
		for _, c := range []struct{ path, want string }{{"//", "404"}, {"http://%", "404"}, {"/../serve.mjs", "404"}, {"/?endpoint=//", "200"}} {
			conn := dial(t, at)
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", c.path)
			answer, _ := bufio.NewReader(conn).ReadString('\n')
			if !strings.HasPrefix(answer, "HTTP/1.1 "+c.want) {
				t.Errorf("%s answers GET %s with %q", name, c.path, answer)
			}
		}
	}
}
