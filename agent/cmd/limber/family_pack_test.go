package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	stockfamily "github.com/limber-edge/limber/family/stock"
)

// says runs the program and checks its exit code and what it says.
func says(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	var out, errs strings.Builder
	if got := run(t.Context(), args, &out, &errs); got != code || !strings.Contains(out.String()+errs.String(), want) {
		t.Errorf("limber %s: exit %d, want %d and %q in\n%s%s", strings.Join(args, " "), got, code, want, out.String(),
			errs.String())
	}
}

// stockMembers is how many members the stock family has.
func stockMembers(t *testing.T) int {
	t.Helper()
	f, err := stockfamily.Family()
	if err != nil {
		t.Fatal(err)
	}
	return len(f.Members)
}

func TestAFamilyIsPackedVerifiedAndCompared(t *testing.T) {
	dir := t.TempDir()
	whole, small, stock := filepath.Join(dir, "whole.family"), filepath.Join(dir, "small.family"),
		filepath.Join("..", "..", "..", "family", "stock")
	all := fmt.Sprintf("%d members", stockMembers(t))
	says(t, 0, all, "family", "pack", "--family", stock, "--out", whole)
	says(t, 0, all, "family", "pack", "--family", whole, "--without-supernet", "--out", small)
	says(t, 0, all+" pass their canaries", "family", "verify", "--family", whole)
	says(t, 1, "supernet.pth", "family", "verify", "--family", small)
	says(t, 0, "needs 0 blobs", "family", "diff", stock, whole)
	says(t, 0, "● 23.1M", "family", "show", "--family", whole)
	plot := filepath.Join(dir, "front.svg")
	says(t, 0, "", "family", "show", "--family", whole, "--plot", plot)
	if info, err := os.Stat(plot); err != nil || info.Size() < 1000 {
		t.Errorf("%s: got %v, %v", plot, info, err)
	}

	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(small, b, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, 1, "blob", "family", "verify", "--family", small)
	says(t, 1, "wants what `limber family pack` wrote", "family", "verify", "--family", filepath.Join(stock, "README.md"))
	says(t, 1, "no such file", "family", "diff", stock, filepath.Join(dir, "none"))
	other := filepath.Join(dir, "front.pdf")
	if err := os.WriteFile(other, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, 1, "pictures are SVG", "family", "show", "--plot", other)
	if b, err := os.ReadFile(other); string(b) != "theirs" {
		t.Errorf("a file that cannot be drawn to: got %q, %v, want it left alone", b, err)
	}
	says(t, 2, "--out", "family", "pack")
	left, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
