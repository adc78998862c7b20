package blob

import (
	"net/url"
	"strings"
	"testing"
)

func mustAllow(tb testing.TB, urls ...string) Allowed {
	tb.Helper()
	a, err := ParseAllowed(urls)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func TestC7_OnlyWhatLiesBelowAnAllowedURLIsASource(t *testing.T) {
	allowed := mustAllow(t, "https://models.example/families/", "http://10.0.0.7:8080", "http://[fd00::1]/x")
	for _, tt := range []struct{ source, want string }{ // want: what is asked for, or a part of the complaint
		{"https://models.example/families", "https://models.example:443/families/"},
		{"https://models.example/families/a/b", "https://models.example:443/families/a/b/"},
		{"HTTPS://Models.Example:443/families/a/", "https://models.example:443/families/a/"},
		{"https://models.example/x/../families//a/./", "https://models.example:443/families/a/"},
		{"http://10.0.0.7:8080/anything", "http://10.0.0.7:8080/anything/"},
		{"http://[fd00::1]:80/x", "http://[fd00::1]:80/x/"},

		{"http://models.example/families", "is not below"},
		{"https://models.example:8443/families", "is not below"},
		{"https://models.example:0443/families", "is not below"},
		{"https://models.example./families", "is not below"},
		{"https://models.example.evil.example/families", "is not below"},
		{"https://evil.example/models.example/families", "is not below"},
		{"https://models.example/families-of-mine", "is not below"},
		{"https://models.example/families/../secret", "is not below"},
		{"https://models.example/", "is not below"},
		{"http://169.254.169.254/latest/meta-data", "is not below"},
		{"http://127.0.0.1:8080", "is not below"},
		{"http://0x0a000007:8080", "is not below"},
		{"http://167772167:8080", "is not below"},
		{"http://[::ffff:10.0.0.7]:8080", "is not below"},
		{"http://10.0.0.7", "is not below"},

		{"https://models.example@evil.example/families", "user information"},
		{"https://user:secret@models.example/families", "user information"},
		{"https://models.example/families?x=1", "query"},
		{"https://models.example/families?", "query"},
		{"https://models.example/families#a", "fragment"},
		{"https://models.example/families#", "fragment"},
		{"https://models.example/families/%2e%2e/secret", "not allowed in it"},
		{"https://models.example/families%2f..%2fsecret", "not allowed in it"},
		{`https://models.example/families\..\secret`, "not allowed in it"},
		{"https://models.exаmple/families", "not allowed in it"}, // a Cyrillic a
		{"file:///etc/passwd", "wants http"},
		{`\\host\share`, "wants http"},
		{"//models.example/families", "wants http"},
		{"ftp://models.example/families", "wants http"},
		{"https:models.example/families", "no host"},
		{"https:///families", "no host"},
		{"https://models.example/\x00", "not a URL"},
		{"", "wants http"},
	} {
		u, err := allowed.Permit(tt.source)
		if err == nil && u.String() != tt.want || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, %v; want %q", tt.source, u, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "user:secret") {
			t.Errorf("%q: got %v, want no secret in it", tt.source, err)
		}
	}
}

func TestC7_WithoutAConfigurationNoSourceIsAllowed(t *testing.T) {
	if u, err := Allowed(nil).Permit("https://models.example/"); err == nil {
		t.Errorf("%v is allowed", u)
	}
}

func TestEveryComplaintAboutAllowedURLsIsTold(t *testing.T) {
	_, err := ParseAllowed([]string{"https://ok.example", "ftp://a.example", "https://u@b.example"})
	if err == nil || !strings.Contains(err.Error(), "a.example") || !strings.Contains(err.Error(), "b.example") {
		t.Errorf("got %v, want both complaints", err)
	}
}

// FuzzPermit: whatever is permitted is, read again by another's eyes, below the prefix.
func FuzzPermit(f *testing.F) {
	for _, seed := range []string{"https://models.example/families/a", "https://models.example:443/families/../x",
		"https://models.example/families%2f", "//x", "https://u@models.example/families", "https://[::1]/"} {
		f.Add(seed)
	}
	allowed := mustAllow(f, "https://models.example/families")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := allowed.Permit(text)
		if err != nil {
			return
		}
		again, err := url.Parse(u.JoinPath(strings.Repeat("ab", 32)).String())
		if err != nil || again.Scheme != "https" || again.Host != "models.example:443" || again.User != nil ||
			!strings.HasPrefix(again.EscapedPath(), "/families/") || strings.Contains(again.EscapedPath(), "..") {
			t.Errorf("%q is asked for as %v, %v", text, again, err)
		}
	})
}
