package repo

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Names of key files: ROLE.pem or ROLE-NAME.pem, and the public half of each.
const (
	privateSuffix = ".pem"
	publicSuffix  = ".pub"
)

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 16 << 10

// Key is one of Ed25519. Its files are PEM of PKCS #8, and of PKIX for the public half.
type Key struct {
	ID   string // of the public half, as TUF has it: 64 hexadecimal digits
	Role Role   // by the name of the file
	File string // that it was read from

	public *metadata.Key
	signer signature.Signer // nil: only the public half is here
}

// Private tells whether it can sign.
func (k Key) Private() bool { return k.signer != nil }

// roleOfFile is the role that the name of a key file begins with.
func roleOfFile(file string) (Role, error) {
	name := filepath.Base(file)
	stem := strings.TrimSuffix(strings.TrimSuffix(name, privateSuffix), publicSuffix)
	role, _, _ := strings.Cut(stem, "-")
	if err := CheckRole(role); err != nil || stem == name {
		return "", fmt.Errorf("key file %s: its name is ROLE%s or ROLE-NAME%s, ROLE being one of %s", file, privateSuffix,
			privateSuffix, strings.Join(Roles(), ", "))
	}
	return role, nil
}

// GenerateKey makes a key for a role in a new file, which its owner alone can read, and
// its public half beside it.
func GenerateKey(role Role, file string) (Key, error) {
	switch named, err := roleOfFile(file); {
	case err != nil:
		return Key{}, err
	case named != role || filepath.Ext(file) != privateSuffix:
		return Key{}, fmt.Errorf("key file %s: by the name it is of no key of %s; call it %s%s or %s-NAME%s", file, role,
			role, privateSuffix, role, privateSuffix)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, err
	}
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, err
	}
	if err := writeNew(file, "PRIVATE KEY", secret, 0o600); err != nil {
		return Key{}, err
	}
	if err := writeNew(PublicFile(file), "PUBLIC KEY", open, 0o644); err != nil {
		return Key{}, errors.Join(err, os.Remove(file))
	}
	return ReadKey(file)
}

// PublicFile is where the public half of a key file is.
func PublicFile(file string) string { return strings.TrimSuffix(file, privateSuffix) + publicSuffix }

// writeNew writes PEM to a file that must not be there.
func writeNew(file, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("key file %s is there already: a key is never written over", file)
	} else if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncFolder(filepath.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("key file %s: %w", file, errors.Join(err, os.Remove(file)))
	}
	return nil
}

// ReadKey reads a key file, of either half.
func ReadKey(file string) (Key, error) {
	role, err := roleOfFile(file)
	if err != nil {
		return Key{}, err
	}
	b, err := readFile(file, maxKeyFile)
	if err != nil {
		return Key{}, fmt.Errorf("key file: %w", err)
	}
	k := Key{Role: role, File: file}
	if err := k.decode(b); err != nil {
		return Key{}, fmt.Errorf("key file %s: %w; `limber firmware keygen` makes one", file, err)
	}
	return k, nil
}

func (k *Key) decode(b []byte) error {
	block, rest := pem.Decode(b)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("it is not one block of PEM")
	}
	var public any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		var secret any
		if secret, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			return errors.New("it is not PKCS #8")
		}
		private, ok := secret.(ed25519.PrivateKey)
		if !ok {
			return errors.New("it is not of Ed25519")
		}
		public = private.Public()
		k.signer, err = signature.LoadED25519Signer(private)
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		err = fmt.Errorf("it holds a %.40s", block.Type)
	}
	if err != nil {
		return err
	}
	if _, ok := public.(ed25519.PublicKey); !ok {
		return errors.New("it is not of Ed25519")
	}
	if k.public, err = metadata.KeyFromPublicKey(public); err != nil {
		return err
	}
	k.ID, err = k.public.ID()
	return err
}

// ReadKeys reads the key files of folders, each key once and with its secret where that
// is here.
func ReadKeys(dirs ...string) ([]Key, error) {
	var all []Key
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext != privateSuffix && ext != publicSuffix {
				continue
			}
			k, err := ReadKey(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			all = addKey(all, k)
		}
	}
	return all, nil
}

// addKey adds a key that is not there, or the secret of one that is.
func addKey(all []Key, k Key) []Key {
	i := slices.IndexFunc(all, func(other Key) bool { return other.ID == k.ID })
	switch {
	case i < 0:
		return append(all, k)
	case !all[i].Private():
		all[i] = k
	}
	return all
}
