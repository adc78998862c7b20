package control

import (
	"context"
	"strings"
)

// Expired is the end of an action whose command's time was over: in words, and with the
// error that what was done then ended with.
func Expired(words string, err error) error { return &expired{words, err} }

type expired struct {
	words string
	err   error
}

func (e *expired) Unwrap() error { return e.err }

// Error adds what was waited for, where more is known than that the time is over.
func (e *expired) Error() string {
	text := e.words
	for line := range strings.SplitSeq(e.err.Error(), "\n") { // of errors that were joined
		if !strings.HasSuffix(line, context.DeadlineExceeded.Error()) {
			text += "; " + line
		}
	}
	return text
}
