package dash

import (
	"math"
	"strconv"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

// message is what a stream tells: all that is on its screen at first, then what of it has
// changed. What is absent is as it was. web/src/wire.ts has the same for the page.
type message struct {
	First bool   `json:"first,omitempty"` // nothing that was told before counts any more
	Fleet string `json:"fleet,omitempty"` // its name; with First alone
	Link  *link  `json:"link,omitempty"`
	Steer steer  `json:"steer,omitempty"`
	// what is wrong with the expression; no device fits then
	WhereError *whereError      `json:"where_error,omitempty"`
	Counts     *counts          `json:"counts,omitempty"`
	Order      *[]string        `json:"order,omitempty"` // the names in the window, those to be looked at first
	Tiles      map[string]*tile `json:"tiles,omitempty"` // of the window, those that changed
	Device     *deviceScreen    `json:"device,omitempty"`
	Rollouts   *rolloutsScreen  `json:"rollouts,omitempty"`
	Rollout    *rolloutScreen   `json:"rollout,omitempty"`
}

// link is how it stands with the broker.
type link struct {
	OK      bool       `json:"ok"`
	Settled bool       `json:"settled"`           // all that the broker retains has been read once
	Broker  string     `json:"broker"`            // URL, without a password
	Trouble string     `json:"trouble,omitempty"` // what is wrong with it
	Since   *wire.Time `json:"since,omitempty"`   // since when
}

// steer tells whether the page may steer, and why not.
type steer string

// Without a token file nobody steers; the broker decides about the rest.
const (
	steerNone   steer = "none"   // the server has no token file
	steerToken  steer = "token"  // with its token
	steerDenied steer = "denied" // the broker dropped what was sent last: its user may not steer
)

// whereError is what is wrong with an expression.
type whereError struct {
	At   int    `json:"at"` // bytes into it, from 0
	Text string `json:"text"`
}

// counts are numbers of devices. Those of the five looks add up to Fit.
type counts struct {
	Devices  int `json:"devices"` // in the fleet
	Fit      int `json:"fit"`     // the expression
	Lost     int `json:"lost"`
	Fault    int `json:"fault"`
	Updating int `json:"updating"`
	Offline  int `json:"offline"`
	Online   int `json:"online"`
	// there is no room for all devices of the fleet, or for all that they say
	More bool `json:"more,omitempty"`
}

// tile is a device in short. What is not known is absent; of one that is not online the
// figures are.
type tile struct {
	Look    fleet.Look        `json:"look"`            // lost, fault, updating, offline or online
	State   wire.Presence     `json:"state,omitempty"` // lost, offline or online
	Since   *wire.Time        `json:"since,omitempty"` // when the state began; absent of one that is lost
	Note    string            `json:"note,omitempty"`  // what it says of itself, or of an update
	Mode    string            `json:"mode,omitempty"`  // "goal" for one of figures
	Member  string            `json:"member,omitempty"`
	At      int               `json:"member_at,omitempty"` // its place among the members, the fastest being 1
	Members int               `json:"members,omitempty"`   // how many there are
	Family  string            `json:"family,omitempty"`
	Version string            `json:"version,omitempty"` // of the agent
	JobsS   *float64          `json:"jobs_s,omitempty"`  // jobs a second
	Late    *float64          `json:"late,omitempty"`    // of the jobs that were not refused, in [0, 1]
	P95MS   *float64          `json:"p95_ms,omitempty"`  // of infer
	TempC   *float64          `json:"temp_c,omitempty"`  // of the hottest sensor
	Queue   int               `json:"queue,omitempty"`   // jobs waiting
	Outbox  int               `json:"outbox,omitempty"`  // messages waiting for the link
	Labels  map[string]string `json:"labels,omitempty"`
}

// deviceScreen is one device as a whole.
type deviceScreen struct {
	Name      string        `json:"name"`
	Known     *bool         `json:"known,omitempty"`
	Tile      *tile         `json:"tile,omitempty"`
	Facts     *[]fact       `json:"facts,omitempty"` // in words with units, in order; several may have one name
	Front     *[]member     `json:"front,omitempty"` // the Pareto front, fastest first
	Modes     *[]string     `json:"modes,omitempty"` // that it can be set to; {member} stands for the name of each
	Aim       *aim          `json:"aim,omitempty"`
	Series    *series       `json:"series,omitempty"`    // points to append
	Events    []deviceEvent `json:"events,omitempty"`    // to append, oldest first
	Decisions []decision    `json:"decisions,omitempty"` // to append, oldest first
	Commands  *[]*command   `json:"commands,omitempty"`  // the last ones, oldest first
}

// fact is something that is known of a device, in words.
type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// member is a point of the Pareto front.
type member struct {
	Name       string   `json:"name"`
	Top1       float64  `json:"top1"` // in [0, 1]
	MMACs      float64  `json:"mmacs"`
	Resolution int      `json:"resolution"`       // input side, in pixels
	P50MS      *float64 `json:"p50_ms,omitempty"` // unloaded; absent if not yet measured
	P95MS      *float64 `json:"p95_ms,omitempty"`
	Operating  bool     `json:"operating,omitempty"`
}

// aim is what the device pursues, and what it is to.
type aim struct {
	Mode    string      `json:"mode,omitempty"` // in force now; "goal" for one of figures
	Goal    *wire.Goal  `json:"goal,omitempty"` // in force now
	Status  wire.Status `json:"status,omitempty"`
	Reason  wire.Reason `json:"reason,omitempty"`
	Detail  string      `json:"detail,omitempty"`
	Nearest *wire.Goal  `json:"nearest,omitempty"` // to an infeasible goal, that can be had
	Desired *desired    `json:"desired,omitempty"` // the last desired state that is meant for it
}

// desired is a desired state.
type desired struct {
	Of      string     `json:"of"` // the device, or one of its groups
	Version uint64     `json:"version"`
	Mode    string     `json:"mode,omitempty"`
	Goal    *wire.Goal `json:"goal,omitempty"`
}

// series are points over time, in columns of one length; null is unknown.
type series struct {
	T       []int64  `json:"t"` // Unix time, in milliseconds
	P50MS   figures  `json:"p50_ms"`
	P95MS   figures  `json:"p95_ms"`
	Others  figures  `json:"others_percent"` // CPU of all but the agent
	TempC   figures  `json:"temp_c"`         // of the hottest sensor
	Queue   figures  `json:"queue"`
	Outbox  figures  `json:"outbox"`
	Late    figures  `json:"late"` // share of the jobs, in [0, 1]
	JobsS   figures  `json:"jobs_s"`
	Members []string `json:"member"` // operating; "" unknown
}

// figures are written with what a screen can show of them; NaN is unknown.
type figures []float32

// MarshalJSON implements json.Marshaler.
func (f figures) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range f {
		if i > 0 {
			b = append(b, ',')
		}
		if v := float64(v); math.IsNaN(v) || math.IsInf(v, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, v, 'g', 5, 64)
		}
	}
	return append(b, ']'), nil
}

// deviceEvent is something that happened on the device.
type deviceEvent struct {
	TS       wire.Time      `json:"ts"`
	Severity wire.Severity  `json:"severity"`
	Kind     wire.EventKind `json:"kind"`           // "switch" of a member, and others
	From     string         `json:"from,omitempty"` // of a switch: the member before
	Member   string         `json:"member,omitempty"`
	Detail   string         `json:"detail,omitempty"` // of a switch: why
	Text     string         `json:"text"`             // all of it, in a sentence
}

// decision is what the governor did with a job, and what else it could have done.
type decision struct {
	TS          wire.Time     `json:"ts"`
	Member      string        `json:"member"`
	Reason      string        `json:"reason"`
	SlackMS     float64       `json:"slack_ms"`
	Waiting     int           `json:"waiting"`
	PredictedMS float64       `json:"predicted_ms"`
	Chance      float64       `json:"chance"`             // to be in time, in [0, 1]
	InferMS     *float64      `json:"infer_ms,omitempty"` // absent if the job was refused, or still ran
	Belief      string        `json:"belief"`
	Options     []wire.Option `json:"options"`
}

// command is one that the device was given, by whomever.
type command struct {
	ID     string      `json:"id"`
	Verb   string      `json:"verb"`
	Asked  string      `json:"asked,omitempty"`  // in words, as far as it was heard
	State  wire.Step   `json:"state,omitempty"`  // absent: it has not answered
	Reason wire.Reason `json:"reason,omitempty"` // why it failed
	Detail string      `json:"detail,omitempty"` // how far it is, or why it failed
	TS     wire.Time   `json:"ts"`               // of the answer, or when the command was heard
}

// rolloutsScreen has those that the controller retains.
type rolloutsScreen struct {
	Trouble *string                  `json:"trouble,omitempty"` // of the controller; "" none
	Order   *[]string                `json:"order,omitempty"`   // ids, newest first
	Docs    map[string]*wire.Rollout `json:"docs,omitempty"`    // those that changed, without their devices
}

// rolloutScreen is one of them, with its devices as far as they are in the window: those to be
// looked at first.
type rolloutScreen struct {
	ID      string                         `json:"id"`
	Known   *bool                          `json:"known,omitempty"`
	Trouble *string                        `json:"trouble,omitempty"` // of the controller; "" none
	Doc     *wire.Rollout                  `json:"doc,omitempty"`     // without its devices
	Total   *int                           `json:"total,omitempty"`   // devices in it
	Order   *[]string                      `json:"order,omitempty"`   // names in the window
	Devices map[string]*wire.RolloutDevice `json:"devices,omitempty"` // of the window, those that changed
	// what all its devices found that compared a family, by the values of their labels
	ByLabel *[]controller.Labelled `json:"by_label,omitempty"`
}

// aimBody is the body of a request that a device be set to a mode, or to a goal.
type aimBody struct {
	Mode string     `json:"mode,omitempty"` // of .../mode
	Goal *wire.Goal `json:"goal,omitempty"` // of .../goal
}

// actBody is the body of a request that something be done with a rollout.
type actBody struct {
	Rollback bool `json:"rollback,omitempty"` // of .../abort: those done go back
}

// outcome is the answer to a request that steers.
type outcome struct {
	State   wire.Step   `json:"state"`             // "succeeded", or another that a command ends in
	Reason  wire.Reason `json:"reason,omitempty"`  // of another
	Detail  string      `json:"detail,omitempty"`  // a sentence
	Nearest *wire.Goal  `json:"nearest,omitempty"` // to an infeasible goal, that can be had
}

// fault is the answer to a request that was refused.
type fault struct {
	Error string `json:"error"` // a sentence with the remedy
}
