package repo

import (
	"cmp"
	"strconv"
	"strings"
)

// maxVersion bounds the text of a version, in bytes.
const maxVersion = 64

// ValidVersion tells whether a text is a version: three numbers, and perhaps "-" and
// names, as in 1.4.0-rc.1. It may be a name of a folder.
func ValidVersion(v string) bool {
	core, pre, hasPre := strings.Cut(v, "-")
	numbers := strings.Split(core, ".")
	if len(v) > maxVersion || len(numbers) != 3 {
		return false
	}
	for _, n := range numbers {
		if _, ok := number(n); !ok {
			return false
		}
	}
	if !hasPre {
		return true
	}
	for name := range strings.SplitSeq(pre, ".") {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) || r == '_' || r == '+' }) {
			return false
		}
	}
	return true
}

// number reads a decimal number without zeros before it.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}

// CompareVersions orders two valid versions by the rules of semver.org: what has names
// behind it comes before what has none, numbers among the names before other names.
func CompareVersions(a, b string) int {
	coreA, preA, _ := strings.Cut(a, "-")
	coreB, preB, _ := strings.Cut(b, "-")
	if c := compareNames(coreA, coreB); c != 0 {
		return c
	}
	if preA == "" || preB == "" {
		return -cmp.Compare(len(preA), len(preB)) // the empty one is later
	}
	return compareNames(preA, preB)
}

func compareNames(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, isX := number(as[i])
		y, isY := number(bs[i])
		c := strings.Compare(as[i], bs[i])
		switch {
		case isX && isY:
			c = cmp.Compare(x, y)
		case isX:
			c = -1
		case isY:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}
