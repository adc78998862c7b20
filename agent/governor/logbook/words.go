package logbook

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// words are the words of a line that were not read yet. After an error, which
// is the first one, they read as zeros.
type words struct {
	rest string
	more bool // there is another, which may be empty
	err  error
}

func (w *words) next() string {
	if !w.more && w.err == nil {
		w.err = fmt.Errorf("a word is missing")
	}
	if w.err != nil {
		return ""
	}
	var word string
	word, w.rest, w.more = strings.Cut(w.rest, " ")
	return word
}

// all is everything up to the end of the line.
func (w *words) all() string {
	if !w.more && w.err == nil {
		w.err = fmt.Errorf("the line ends early")
	}
	all := w.rest
	w.rest, w.more = "", false
	return all
}

func (w *words) duration() time.Duration { return time.Duration(w.number(w.next())) }

func (w *words) whole() int { return int(w.number(w.next())) }

func (w *words) number(word string) (n int64) {
	if w.err == nil {
		n, w.err = strconv.ParseInt(word, 10, 64)
	}
	return n
}

func (w *words) float() (f float64) {
	word := w.next()
	if w.err == nil {
		f, w.err = strconv.ParseFloat(word, 64)
	}
	return f
}

// durations is a list of times that count from now; nil for "-".
func (w *words) durations(now time.Duration) (all []time.Duration) {
	word := w.next()
	if w.err != nil || word == "-" {
		return nil
	}
	for part := range strings.SplitSeq(word, ",") {
		all = append(all, now+time.Duration(w.number(part)))
	}
	return all
}

// flags are n zeros or ones.
func (w *words) flags(n int) []bool {
	word := w.next()
	if w.err == nil && (len(word) != n || strings.Trim(word, "01") != "") {
		w.err = fmt.Errorf("%.40q where %d zeros and ones belong", word, n)
	}
	if w.err != nil {
		return nil
	}
	set := make([]bool, n)
	for i := range set {
		set[i] = word[i] == '1'
	}
	return set
}

func (w *words) quoted() (s string) {
	text := w.all()
	if w.err == nil {
		s, w.err = strconv.Unquote(text)
	}
	return s
}

func (w *words) preference() governor.Preference {
	n := w.whole()
	if w.err == nil && (n < 0 || n > int(governor.Energy)) {
		w.err = fmt.Errorf("preference %d is not known", n)
	}
	return governor.Preference(n)
}
