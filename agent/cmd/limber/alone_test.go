package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestWhatIsTestedWithoutTheRaceDetectorStartsNothingBesideItself(t *testing.T) {
	project := filepath.Join("..", "..", "..")
	makefile, err := os.ReadFile(filepath.Join(project, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ALONE += (.*)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile does not say which packages those are")
	}
	for _, name := range strings.Fields(string(line[1])) {
		files, err := filepath.Glob(filepath.Join(project, name, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: got %v, %v; want a package", name, files, err)
		}
		for _, file := range files {
			if at := concurrent(t, file); at != "" {
				t.Errorf("%s starts something that runs beside it: have the Makefile test %s with the race detector", at, name)
			}
		}
	}
}

// concurrent is where a file first starts a goroutine or a parallel test; empty if
// nowhere.
func concurrent(t *testing.T, file string) (at string) {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		_, starts := n.(*ast.GoStmt)
		call, called := n.(*ast.SelectorExpr) // of a test, of a sync.WaitGroup or an errgroup.Group
		if at == "" && (starts || called && (call.Sel.Name == "Parallel" || call.Sel.Name == "Go")) {
			at = set.Position(n.Pos()).String()
		}
		return at == ""
	})
	return at
}
