package wire

import "fmt"

// Refusal is an error with the reason that an answer gives for it. Its text is
// the answer's detail.
type Refusal struct {
	Reason Reason
	Err    error
}

// Refuse is a refusal in words, as of fmt.Errorf.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Error is the refusal in words.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns what the refusal says in words.
func (r *Refusal) Unwrap() error { return r.Err }
