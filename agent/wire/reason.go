package wire

import (
	"fmt"
)

// Reason is why a job or command was refused, or why it failed.
type Reason string

// All the reasons there are. A job is refused as invalid, busy, infeasible,
// conflict, unsupported or internal only; a command may be rejected for any.
const (
	Busy         Reason = "busy"         // the deadline cannot be met any more, or the queue is full
	Infeasible   Reason = "infeasible"   // no member reaches what was asked for
	Unsupported  Reason = "unsupported"  // this device or version cannot do it
	Invalid      Reason = "invalid"      // the message breaks the contract
	Unauthorized Reason = "unauthorized" // the sender may not ask for it
	Expired      Reason = "expired"      // it came after its expiry
	Conflict     Reason = "conflict"     // the id was used with other bytes, or a greater version was applied
	Precondition Reason = "precondition" // a condition of the sender does not hold
	NoSpace      Reason = "no_space"     // the disk, the memory or a quota is full
	Thermal      Reason = "thermal"      // too hot to do it
	NeedsReboot  Reason = "needs_reboot" // it takes a reboot, which was not allowed
	Locked       Reason = "locked"       // an exclusive command is running
	Disagreement Reason = "disagreement" // a family answers too many frames otherwise than the one in use
	Internal     Reason = "internal"     // a fault of the agent
)

// JobReasons are those that a job may be refused for.
func JobReasons() []Reason {
	return []Reason{Invalid, Busy, Infeasible, Conflict, Unsupported, Internal}
}

// Status is the outcome of a job, or of a desired state.
type Status string

// A job is answered OK or Refused, a desired state Applied or Rejected.
const (
	OK       Status = "ok"
	Refused  Status = "refused"
	Applied  Status = "applied"
	Rejected Status = "rejected"
)

// Presence is whether a device is there.
type Presence string

// Online is the birth, Offline a clean stop, Lost the last will.
const (
	Online  Presence = "online"
	Offline Presence = "offline"
	Lost    Presence = "lost"
)

// Step is a state of a command.
type Step string

// The states of a command; the package comment draws their order.
const (
	CommandReceived   Step = "received"
	CommandAccepted   Step = "accepted"
	CommandRejected   Step = "rejected"
	CommandExecuting  Step = "executing"
	CommandSucceeded  Step = "succeeded"
	CommandFailed     Step = "failed"
	CommandTimedOut   Step = "timed_out"
	CommandCancelled  Step = "cancelled"
	CommandSuperseded Step = "superseded"
)

// Final tells whether no state follows s.
func (s Step) Final() bool {
	switch s {
	case CommandReceived, CommandAccepted, CommandExecuting:
		return false
	}
	return true
}

// Severity is how much an event matters to an operator.
type Severity string

// Info is what happens in a healthy fleet, Warning what somebody should look
// at, Error what costs answers now.
const (
	SeverityInfo    Severity = "info"
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error"
)

// EventKind is what an event tells of. Receivers must expect others.
type EventKind string

// The kinds of events.
const (
	EventSwitch     EventKind = "switch"     // the operating member changed
	EventInfeasible EventKind = "infeasible" // a goal cannot be met; detail has the nearest that can
	EventGap        EventKind = "gap"        // records were evicted from the outbox
	EventFault      EventKind = "fault"      // a part of the agent does not work
	EventProgress   EventKind = "progress"   // of long work; detail says what of what
	// another execution provider or number of threads took over, failed, or was given up; detail says why
	EventProvider EventKind = "provider"
	EventMemory   EventKind = "memory" // a member was taken out of use to make room in memory, or back into it
	EventPower    EventKind = "power"  // the board's power mode changed, or is not what it should be
	EventBadID    EventKind = "bad_id" // a job or command came with an id, or a frame with a source, that is no name
	EventBusy     EventKind = "busy"   // more commands came than are answered; count says how many were not
	EventUpdate   EventKind = "update" // a release proved itself, or went back; reason says why, tail has its last words
)

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
