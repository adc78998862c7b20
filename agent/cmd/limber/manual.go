package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// newManual is for the package. Cobra's own generator of manual pages would bring readers
// of Markdown and YAML into the program, and take texts for Markdown that are none.
func newManual() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:     "manual",
		Short:   "Write the manual pages, and completions for shells",
		Example: `  limber manual --out docs`,
		Hidden:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needed(c.CommandPath(), "out", out); err != nil {
				return err
			}
			return writeManual(c.Root(), out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "folder; man/ and completion/ are made in it")
	return c
}

func writeManual(root *cobra.Command, out string) error {
	man, completion := filepath.Join(out, "man"), filepath.Join(out, "completion")
	for _, dir := range []string{man, completion} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := writePages(root, man); err != nil {
		return err
	}
	for shell, name := range map[string]string{"bash": "limber.bash", "zsh": "_limber", "fish": "limber.fish"} {
		script, err := completionScript(root, shell)
		if err != nil {
			return fmt.Errorf("completion %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(completion, name), script, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writePages writes a page of each command that its help names.
func writePages(c *cobra.Command, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, pageOf(c)+".1"), manualPage(c), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := writePages(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// pageOf is the name of a command's page, such as limber-fleet-ls.
func pageOf(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manualPage is a command's help in the language of man(7).
func manualPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	name := pageOf(c)
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"limber %s\" \"Limber\"\n.ad l\n.nh\n", strings.ToUpper(roff(name)),
		roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(strings.ToLower(c.Short[:1])+c.Short[1:]))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	b.WriteString(".SH DESCRIPTION\n" + prose(cmp.Or(c.Long, c.Short+".")))
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(pageOf(sub)), roff(sub.Short))
			}
		}
	}
	if usages := strings.TrimRight(c.LocalFlags().FlagUsagesWrapped(manWidth), "\n"); usages != "" {
		b.WriteString(".SH OPTIONS\n" + literal(usages))
	}
	b.WriteString(".SH EXAMPLES\n" + literal(c.Example))
	b.WriteString(".SH EXIT STATUS\n" + exitCodes + "\n")
	if c.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(pageOf(c.Parent())))
	}
	return b.Bytes()
}

// manWidth is how many columns of a page are left of 80, without its margins.
const manWidth = 72

// prose sets paragraphs, and as it stands what is indented.
func prose(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(text, "\n\n") {
		switch {
		case paragraph == "":
		case strings.HasPrefix(paragraph, " "):
			b.WriteString(literal(paragraph))
		default:
			if i > 0 {
				b.WriteString(".PP\n")
			}
			b.WriteString(roff(paragraph) + "\n")
		}
	}
	return b.String()
}

// literal sets lines as they stand.
func literal(text string) string { return ".nf\n" + roff(text) + "\n.fi\n" }

// roff writes text so that nothing of it is a request or an escape, and a hyphen is one
// that can be copied into a shell.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
