package blob

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Allowed is where sources may lie: URLs, with all that is below them. Without any,
// none is allowed.
type Allowed []prefix

// prefix is a URL as it is compared.
type prefix struct{ scheme, host, path string } // path without a slash at its end

// ParseAllowed reads the URLs of a configuration; its error joins every complaint.
func ParseAllowed(urls []string) (Allowed, error) {
	var all Allowed
	var errs []error
	for _, text := range urls {
		u, err := parseSource(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, prefixOf(u))
	}
	return all, errors.Join(errs...)
}

// Permit reads the URL of a source and says why it is not allowed. What it returns is
// what was compared, so that nothing else is asked for.
func (a Allowed) Permit(text string) (*url.URL, error) {
	u, err := parseSource(text)
	if err != nil {
		return nil, err
	}
	asked := prefixOf(u)
	if !slices.ContainsFunc(a, asked.below) {
		return nil, fmt.Errorf("source %.200q is not below any of updates.sources of the device's configuration", text)
	}
	return &url.URL{Scheme: asked.scheme, Host: asked.host, Path: asked.path + "/"}, nil
}

// below tells whether p is allowed and p.path is the other's, or lies below it.
func (p prefix) below(allowed prefix) bool {
	return p.scheme == allowed.scheme && p.host == allowed.host &&
		strings.HasPrefix(p.path+"/", allowed.path+"/")
}

// prefixOf takes a URL that parseSource has read.
func prefixOf(u *url.URL) prefix {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") { // an IPv6 address
		host = "[" + host + "]"
	}
	return prefix{scheme, host + ":" + port, strings.TrimSuffix(path.Clean("/"+u.Path), "/")}
}

// parseSource reads a URL whose meaning nobody can mistake: what is written in two ways
// might be compared in one and asked for in the other.
func parseSource(text string) (*url.URL, error) {
	complain := func(what string) error { return fmt.Errorf("source %.200q: %s", text, what) }
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, complain("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, complain("wants http:// or https://")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, complain("it has no host")
	case u.User != nil: // which may be a secret, and whoever reads the broker reads this
		return nil, fmt.Errorf("source %.200q: user information is not allowed in it", u.Scheme+"://...@"+u.Host+u.Path)
	case u.RawQuery != "" || u.ForceQuery:
		return nil, complain("a query is not allowed in it: the name of the blob follows it")
	case strings.Contains(text, "#"):
		return nil, complain("a fragment is not allowed in it")
	case strings.ContainsAny(text, "\\%") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, complain(`"%", "\" and what is not ASCII are not allowed in it`)
	}
	return u, nil
}
