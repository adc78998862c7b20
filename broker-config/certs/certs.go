// Package certs makes the certificates of a fleet, in one folder:
//
//	ca.crt      ca.key       the authority, made once and used again
//	server.crt  server.key   the broker
//	NAME.crt    NAME.key     a client: a device, an operator, a viewer or Home Assistant; the common name
//	                         says which
//	acl                      the access list, where others than devices have names of their own
//
// A key is written before its certificate, and stays when that is renewed, so
// a certificate that is there always belongs to the key beside it: after a cut at
// any moment the same call goes on. Whatever a call cannot do it finds out before it
// writes anything.
//
// The rule that makes it correct: a name is one thing only. A device whose name the
// access list lets steer, or an operator with the name of a device, is not made.
package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/store"
)

// The names in the folder that are not of a client.
const (
	authorityName  = "ca"
	serverName     = "server"
	accessListFile = "acl"
)

// MaxDays is how long a certificate may be good for, in days; the authority is good
// for twice as long.
const MaxDays = 3650

// Request says what is to be made.
type Request struct {
	Dir    string                         // made if it is not there
	Server []string                       // by which names and addresses clients reach the broker; empty: as it is
	Names  map[brokerconfig.Role][]string // of the clients
	Days   int                            // that they are good for
	Renew  bool                           // those that are there, for the same keys
	// The broker is a cluster: its certificate is also that of a client, as which one
	// node comes to another. It then has no common name, and so no rights of a user
	Cluster bool
}

// Made is a certificate that was written.
type Made struct {
	File  string
	What  string // for people
	Until time.Time
}

// Validate joins every complaint about what is asked for, whatever the folder holds.
func (r Request) Validate() error {
	var errs []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(r.Days < 1 || r.Days > MaxDays, "days: %d is not from 1 to %d", r.Days, MaxDays)
	for _, name := range r.Server {
		complain(!validHost(name), "server: %q is neither a host name nor an address", name)
	}
	seen := map[string]bool{}
	for name, role := range r.names() {
		complain(!wire.ValidName(name), "%s: %q is not [A-Za-z0-9_.-]{1,64}", role, name)
		complain(role == brokerconfig.Device && wire.ValidName(name) && !wire.ValidDevice(name),
			"device: %q is the user who may do more than a device: give it another name", name)
		complain(role != brokerconfig.Device && wire.ValidName(name) && !wire.ValidDevice(name) && name != named(role),
			"%s: %q is the name of another: give it another", role, name)
		complain(name == authorityName || name == serverName, "%s: %q has files of that name already: give it another",
			role, name)
		complain(seen[name], "%s: %q is named twice", role, name)
		seen[name] = true
	}
	complain(len(seen) == 0 && len(r.Server) == 0,
		"nothing to make: name a device, an operator, a viewer, Home Assistant or the server")
	return errors.Join(errs...)
}

// named is the user that the shipped list makes one of this role.
func named(r brokerconfig.Role) string {
	switch r {
	case brokerconfig.Operator:
		return wire.Operator
	case brokerconfig.Viewer:
		return wire.Viewer
	case brokerconfig.HomeAssistant:
		return wire.HomeAssistant
	}
	return ""
}

// names yields every client that is asked for.
func (r Request) names() iter.Seq2[string, brokerconfig.Role] {
	return func(yield func(string, brokerconfig.Role) bool) {
		for _, role := range []brokerconfig.Role{brokerconfig.Device, brokerconfig.Viewer, brokerconfig.HomeAssistant,
			brokerconfig.Operator} {
			for _, name := range r.Names[role] {
				if !yield(name, role) {
					return
				}
			}
		}
	}
}

// validHost tells whether a certificate can be for this host: an address, or a name
// whose first label may be a star.
func validHost(s string) bool {
	if net.ParseIP(s) != nil {
		return true
	}
	if len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(strings.TrimPrefix(s, "*."), ".") {
		if !wire.ValidName(label) || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// ErrNoServer says that the folder has no certificate of a server, and that none was
// asked for.
var ErrNoServer = errors.New("there is no certificate of the broker yet: say by which names clients reach it")

// Make makes what a valid request asks for, and returns the certificates that it
// wrote, in that order also beside an error.
func Make(r Request, now time.Time) ([]Made, error) {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	unlock, err := lock(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	defer unlock()
	m := &maker{Request: r, now: now}
	if err := errors.Join(m.plan(), m.planAccess()); err != nil {
		return nil, err
	}
	err = m.write()
	return m.made, err
}

// lock waits until nobody else writes there.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// maker is a request under way.
type maker struct {
	Request
	now time.Time

	authority *pair  // as it is in the folder, or nil
	todo      []leaf // certificates to make, in that order
	access    []byte // what is to be in the access list; nil: as it is
	made      []Made
}

// plan looks at what is there and decides what is to be made.
func (m *maker) plan() error {
	authority, err := readPair(m.file(authorityName), true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("certificates: the authority cannot be used: %w; begin anew in another folder", err)
	}
	if err == nil {
		m.authority = authority
	}
	errs := []error{m.planServer()}
	for name, role := range m.names() {
		errs = append(errs, m.planOne(leaf{name: name, role: role, what: fmt.Sprintf("%s %s", role, name)}))
	}
	if until := m.now.AddDate(0, 0, m.Days); m.authority != nil && until.After(m.authority.cert.NotAfter) {
		errs = append(errs, fmt.Errorf("certificates: the authority ends on %s, before the %d days asked for: give fewer, "+
			"or begin anew in another folder", m.authority.cert.NotAfter.Format(time.DateOnly), m.Days))
	}
	return errors.Join(errs...)
}

// planServer keeps a certificate of the same names.
func (m *maker) planServer() error {
	there, err := readPair(m.file(serverName), false)
	none := errors.Is(err, fs.ErrNotExist)
	switch {
	case none && len(m.Server) == 0:
		return ErrNoServer
	case err != nil && !none:
		return err
	case len(m.Server) == 0:
		return nil
	case !none && !m.Renew && m.Cluster && !there.joins():
		return fmt.Errorf("%s is not for a cluster: --renew makes it for one", m.file(serverName+".crt"))
	case !none && !m.Renew && slices.Equal(there.hosts(), hostsOf(m.Server)):
		return nil
	case !none && !m.Renew:
		return fmt.Errorf("%s is for %s: --renew makes it for %s", m.file(serverName+".crt"),
			strings.Join(there.hosts(), ","), strings.Join(m.Server, ","))
	}
	m.todo = append(m.todo, leaf{name: serverName, hosts: m.Server, joins: m.Cluster || there.joins(), there: there,
		what: "broker " + strings.Join(m.Server, ",")})
	return nil
}

// planOne adds a client, unless it is there.
func (m *maker) planOne(l leaf) error {
	there, err := readPair(m.file(l.name), false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !m.Renew:
		return fmt.Errorf("%s is there: --renew makes it anew, for the same key", m.file(l.name+".crt"))
	}
	l.there = there
	m.todo = append(m.todo, l)
	return nil
}

// planAccess adds lines to the access list for those who need some. It finds out who is
// to be what the list does not make of it.
func (m *maker) planAccess() error {
	text, err := readAccess(m.Dir)
	if err != nil {
		return err
	}
	before := len(text)
	var errs []error
	for name, role := range m.names() {
		acl, err := brokerconfig.ParseACL(bytes.NewReader(text))
		if err != nil {
			return fmt.Errorf("%s: %w", m.file(accessListFile), err)
		}
		switch has := acl.Role(name); {
		case has == role:
		case has == brokerconfig.Device && m.holds(name):
			errs = append(errs, fmt.Errorf("%s %q: %s is that of a device, whose key would get more rights: give another "+
				"name, or remove it and its key first", role, name, m.file(name+".crt")))
		case has == brokerconfig.Device && !acl.Names(name):
			text = append(text, role.Lines(name)...)
		default:
			errs = append(errs, fmt.Errorf("%s %q: the access list %s says %s: change its lines there, or give another name",
				role, name, m.file(accessListFile), has))
		}
	}
	if len(text) > before {
		m.access = text
	}
	return errors.Join(errs...)
}

// holds tells whether a client has a certificate already.
func (m *maker) holds(name string) bool {
	return slices.ContainsFunc(m.todo, func(l leaf) bool { return l.name == name && l.there != nil })
}

// write makes what was planned. The access list is the first: nobody is to have a
// certificate for more than it says.
func (m *maker) write() error {
	if m.access != nil {
		if err := store.WriteFile(m.file(accessListFile), m.access); err != nil {
			return err
		}
	}
	if m.authority == nil {
		if err := m.writeAuthority(); err != nil {
			return err
		}
	}
	for _, l := range m.todo {
		if err := m.writeLeaf(l); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) file(name string) string { return filepath.Join(m.Dir, name) }

// readAccess returns the folder's access list, or the shipped one if there is none.
func readAccess(dir string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, accessListFile))
	if errors.Is(err, fs.ErrNotExist) {
		return brokerconfig.Shipped(), nil
	}
	return text, err
}

// AccessList is what a broker with these certificates obeys: the folder's list, or the
// shipped one if there is none.
func AccessList(dir string) (*brokerconfig.ACL, error) {
	text, err := readAccess(dir)
	if err != nil {
		return nil, err
	}
	return brokerconfig.ParseACL(bytes.NewReader(text))
}
