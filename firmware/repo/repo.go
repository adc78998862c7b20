// Package repo keeps signed releases of the program and signed families, and has a
// device take nothing else.
//
// A repository is a folder that any web server may serve. Its metadata is that of The
// Update Framework (TUF) with consistent snapshots:
//
//	root ─┬─▶ timestamp ─▶ snapshot ─▶ the versions of the three below
//	      └─▶ targets ─┬─ releases ─▶ release/{version}/{arch}.json ─▶ blobs/{SHA-256}
//	                   └─ families ─▶ family/{SHA-256}.json
//
//	metadata/  N.root.json, N.snapshot.json, N.targets.json, N.releases.json,
//	           N.families.json, timestamp.json
//	targets/   the manifests, with their SHA-256 in the name, for any client of TUF
//	blobs/     the files of releases, and the manifests again, each by its SHA-256
//	staged/    metadata that lacks signatures; for those who sign, not for devices
//	repo.json  how long each role's metadata is good for; likewise
//	repo.lock  held by whoever edits the folder
//
// Each role has keys of its own, so whoever trains a network cannot ship a program. A
// Repository edits the folder. What is edited waits in staged/ until as many have signed
// as its role wants, and then the largest set of what waits that a device would take
// becomes visible with the timestamp, which is written last. So what is served always
// verifies, and people who sign on different machines only pass the folder on.
//
// A Client is the device's side, in a folder of its own:
//
//	root/N.json      every root since the one it was given, checked anew at each start
//	N.ROLE.json      what the timestamp names, directly or not
//	timestamp.json   written last
//	time.json        the latest time that it may rely on
//
// The rule that makes the client correct: a file is written whole (new file, fsync,
// rename, fsync of the folder) and only after it was verified, and what the timestamp
// there names is there until another one has taken its place. A cut leaves the set
// before or the next one, and never an older one than that.
//
// Verification is go-tuf's trustedmetadata, which this package alone imports. Before a
// document reaches it, the document is judged here: that library ends the program on
// some that are valid JSON. Its updater is not used: it holds a target in memory as a
// whole, starts from the first root again and knows no clock but the system's.
package repo

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/family"
)

// Role is who signs a document.
type Role = string

// The roles. Releases and Families are delegations of Targets.
const (
	Root      Role = "root"
	Timestamp Role = "timestamp"
	Snapshot  Role = "snapshot"
	Targets   Role = "targets"
	Releases  Role = "releases"
	Families  Role = "families"
)

// Roles returns all of them, in the order in which one answers for the next.
func Roles() []Role { return []Role{Root, Targets, Releases, Families, Snapshot, Timestamp} }

// CheckRole says why a name is not that of a role.
func CheckRole(name string) error {
	if !slices.Contains(Roles(), name) {
		return fmt.Errorf("there is no role %q: it is one of %s", name, strings.Join(Roles(), ", "))
	}
	return nil
}

// Folders of a repository, and the file that is written last.
const (
	metadataDir   = "metadata"
	targetsDir    = "targets"
	blobsDir      = "blobs"
	stagedDir     = "staged"
	timestampFile = "timestamp.json"
)

// BlobsBelow is where the blobs of repositories are, by their URLs.
func BlobsBelow(sources ...string) (urls []string) {
	for _, s := range sources {
		urls = append(urls, strings.TrimSuffix(s, "/")+"/"+blobsDir)
	}
	return urls
}

// Bounds of what is read, in bytes.
const (
	maxTimestamp = 16 << 10
	maxRoot      = 256 << 10
	maxMetadata  = 4 << 20 // thousands of releases
	maxManifest  = 512 << 10
)

// maxOf is how many bytes a role's document may have.
func maxOf(role Role) int64 {
	switch role {
	case Timestamp:
		return maxTimestamp
	case Root:
		return maxRoot
	}
	return maxMetadata
}

// lifetimes are how long documents are good for, where nothing else is said: those that
// a machine signs every day for days, those that people sign for a year.
func lifetimes() map[Role]time.Duration {
	const day = 24 * time.Hour
	return map[Role]time.Duration{Root: 365 * day, Targets: 365 * day, Releases: 365 * day, Families: 365 * day,
		Snapshot: 30 * day, Timestamp: 7 * day}
}

// fileOf is the name of a version of a role's document.
func fileOf(role Role, version int64) string {
	if role == Timestamp {
		return timestampFile
	}
	return fmt.Sprintf("%d.%s.json", version, role)
}

// pathsOf are the targets that a delegated role answers for.
func pathsOf(role Role) []string {
	if role == Releases {
		return []string{"release/*/*.json"}
	}
	return []string{"family/*.json"}
}

func releaseTarget(version, arch string) string { return "release/" + version + "/" + arch + ".json" }

func familyTarget(d family.Digest) string { return "family/" + string(d) + ".json" }

// consistent is where a target lies, whose name has its digest in it.
func consistent(target string, d family.Digest) string {
	return path.Join(targetsDir, path.Dir(target), string(d)+"."+path.Base(target))
}

// ErrRefused marks what is not signed as it must be, or not any more: trying again does
// not mend it until somebody signs.
var ErrRefused = errors.New("refused")

// refuse makes an error that is ErrRefused and says why.
func refuse(format string, args ...any) error {
	return refusal{fmt.Errorf(format, args...)}
}

type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Is makes it ErrRefused.
func (r refusal) Is(target error) bool { return target == ErrRefused }
