package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// printList prints a list for people, a row for each under a head, whose cells tabs
// separate; or one JSON object a line.
func printList[T any](w io.Writer, asJSON bool, list []T, align uint, head string, row func(T) string) error {
	if asJSON {
		return printLines(w, list)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', align)
	fmt.Fprintln(t, head)
	for _, one := range list {
		fmt.Fprintln(t, row(one))
	}
	return t.Flush()
}

// printLines prints one JSON object a line.
func printLines[T any](w io.Writer, list []T) error {
	enc := json.NewEncoder(w)
	for _, v := range list {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
