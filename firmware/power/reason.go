package power

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Errors that a caller branches on.
var (
	ErrForbidden   = errors.New("changing the power mode was not allowed on this device")
	ErrReboot      = errors.New("it takes a reboot, which is left to the operator")
	ErrUnknown     = errors.New("this board has no such power mode")
	ErrUnsupported = errors.New("this board cannot do that")
	ErrBusy        = errors.New("the mode changes at most once in ten seconds, and is tried six times a minute")
)

// errInvalid is that of a line that asks for nothing.
var errInvalid = errors.New("the request is none")

// refusal is an error in words of its own that stands for one of those above.
type refusal struct {
	error
	is error
}

// refuse is a refusal in words, as of fmt.Errorf.
func refuse(is error, format string, args ...any) error {
	return refusal{fmt.Errorf(format, args...), is}
}

// Unwrap returns what it says and what it stands for.
func (r refusal) Unwrap() []error { return []error{r.error, r.is} }

// reasons are what an error stands for, in the words of the wire, the first that fits.
var reasons = [...]struct {
	reason string
	is     error
}{
	{"needs_reboot", ErrReboot},
	{"invalid", ErrUnknown},
	{"invalid", errInvalid},
	{"unauthorized", ErrForbidden},
	{"unauthorized", fs.ErrPermission},
	{"busy", ErrBusy},
	{"unsupported", ErrUnsupported},
	{"expired", context.DeadlineExceeded},
}

// internal is the reason of an error that stands for nothing else.
const internal = "internal"

// Reason is why a change failed, one of the reasons that commands fail for on the wire.
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.is) {
			return r.reason
		}
	}
	return internal
}

// reasoned is the error of a helper, by the reason that it gave and in its words.
func reasoned(reason, detail string) error {
	for _, r := range reasons {
		if r.reason == reason {
			return refuse(r.is, "%s", detail)
		}
	}
	return errors.New(detail)
}
