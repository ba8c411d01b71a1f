package auth

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// The secrets are those that the comments of the examples name.
func TestExampleFilesAreGoodAndTheirSecretsToo(t *testing.T) {
	const usersFile, keysFile = "../../examples/users.yaml", "../../examples/api-keys.yaml"
	secrets := map[string]string{
		"hunter2-of-cam1": usersFile, "hunter2-of-alice": usersFile,
		"beckon_hunter2-of-the-shop": keysFile, "beckon_hunter2-of-the-staff": keysFile,
	}
	for secret, path := range secrets {
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), secret) {
			t.Errorf("%s does not say %s: %v", path, secret, err)
		}
	}
	a := newAuth(t, Config{Users: usersFile, APIKeys: keysFile, JWTKey: file(t, "key", tokenSecret)})
	if strings.Contains(a.out.String(), "weaker") || strings.Contains(a.out.String(), "differ") {
		t.Errorf("it is warned of: %s", a.out)
	}
	if id := a.lets(byName("cam1", "hunter2-of-cam1")); !id.Device || len(id.Grants) != 2 || len(id.Publish) != 2 || len(id.Subscribe) != 2 {
		t.Errorf("cam1 is %+v", id)
	}
	if id := a.lets(byName("alice", "hunter2-of-alice")); len(id.Grants) != 2 || id.Grants[0].Of != "cam1" || id.Grants[1].Role != topics.Observer {
		t.Errorf("alice is %+v", id)
	}
	for key, want := range map[string]Claims{
		"beckon_hunter2-of-the-shop":  {Name: "guest-1", Rooms: []string{"shop-1", "lobby"}, TTL: 10 * time.Minute},
		"beckon_hunter2-of-the-staff": {Name: "cam1", Rooms: []string{"yard-1"}, Role: topics.Admin, Device: true, TTL: 24 * time.Hour},
	} {
		token, _, err := a.MintToken(context.Background(), topics.Credentials{Token: key}, want)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		a.lets(topics.Credentials{Token: token})
	}
}

// The account that stands there as a comment is good as well.
func TestExampleOfAnAccountWithoutPasswordIsGood(t *testing.T) {
	text, err := os.ReadFile("../../examples/users.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "# - name: cam2")
	if !ok {
		t.Fatal("it is not there")
	}
	entry := strings.ReplaceAll("- name: cam2"+rest, "\n# ", "\n")
	u, err := parseUsers("users.yaml", []byte(before+entry), topics.DefaultRoot, true)
	if err != nil || u.user("cam2") == nil || !u.user("cam2").Device {
		t.Errorf("got %+v, %v", u, err)
	}
}
