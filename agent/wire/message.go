package wire

// Result is the one answer to a job.
type Result struct {
	Schema       Schema   `json:"schema"`
	ID           string   `json:"id"`
	Source       string   `json:"source,omitempty"` // who sent the frame, if that was said
	Status       Status   `json:"status"`           // ok or refused
	Reason       Reason   `json:"reason,omitempty"` // of a refusal
	Detail       string   `json:"detail,omitempty"` // of a refusal, a sentence for a human
	Device       string   `json:"device"`
	BootID       string   `json:"boot_id"`
	Seq          uint64   `json:"seq"` // counts the answers of this device
	TS           Time     `json:"ts"`
	Family       string   `json:"family,omitempty"`
	Member       string   `json:"member,omitempty"`
	ExpectedTop1 *float64 `json:"expected_top1,omitempty"` // the member's, in [0, 1]
	Classes      []Class  `json:"classes,omitempty"`       // the five best, best first; fewer if the family has fewer
	MS           *Timing  `json:"ms,omitempty"`
	DeadlineMS   float64  `json:"deadline_ms,omitempty"`
	Met          bool     `json:"met"`               // total <= deadline; false when refused
	Choice       string   `json:"choice,omitempty"`  // why this member
	Cascade      *Cascade `json:"cascade,omitempty"` // absent if one member was asked
	// frames that were inferred at once, this one among them; absent if it was alone
	Batch int  `json:"batch,omitempty"`
	Late  bool `json:"late"` // the answer waited out a broken link
}

// Cascade is the member that looked at the frame first. If it is the result's
// own, it was sure enough, or there was no time for a larger one.
type Cascade struct {
	First string  `json:"first"`
	P     float64 `json:"p"` // probability of its best class, in [0, 1]
}

// Class is one class of a result.
type Class struct {
	Label string `json:"label"`
	Index int    `json:"index"` // in the family's list, from 0
	// probability, in [0, 1]: the softmax of the logits, or what a member with one of its own gave
	P float64 `json:"p"`
}

// Timing is where the time of a job went, in milliseconds. A refused job has
// zero for what was not done.
type Timing struct {
	Queue     float64 `json:"queue"`
	Decode    float64 `json:"decode"`
	Infer     float64 `json:"infer"`
	Total     float64 `json:"total"`               // from receipt to the answer
	Predicted float64 `json:"predicted,omitempty"` // of infer, when the member was chosen
}

// State is birth, clean stop and last will. The will carries the ts of the
// connection it was left with, as nobody knows when the device was lost.
type State struct {
	Schema  Schema   `json:"schema"`
	State   Presence `json:"state"`
	BootID  string   `json:"boot_id"`
	ConnSeq uint64   `json:"conn_seq"` // counts the connections of this boot
	TS      Time     `json:"ts"`
	Detail  string   `json:"detail,omitempty"` // what keeps the device from working, and the remedy
}

// Telemetry is the condition of a device. Absent is unknown, zero is a fact.
type Telemetry struct {
	Schema        Schema   `json:"schema"`
	TS            Time     `json:"ts"`
	Mode          string   `json:"mode,omitempty"`   // "goal" for one of figures
	Goal          *Goal    `json:"goal,omitempty"`   // in force now
	Member        string   `json:"member,omitempty"` // the operating member
	CPUPercent    *float64 `json:"cpu_percent,omitempty"`
	OthersPercent *float64 `json:"others_percent,omitempty"` // CPU of all but the agent
	// share of the last 10 s in which a task waited for a processor (PSI)
	Pressure   *float64           `json:"pressure_percent,omitempty"`
	MemPercent *float64           `json:"mem_percent,omitempty"`
	Load1      *float64           `json:"load1,omitempty"`
	TempsC     map[string]float64 `json:"temps_c,omitempty"` // °C by sensor
	Queue      int                `json:"queue"`             // jobs waiting now
	Jobs       uint64             `json:"jobs"`              // received since the agent started, but for repeats
	Refused    uint64             `json:"refused"`           // of these
	Missed     uint64             `json:"missed"`            // of these, answered after the deadline
	// of these, without a result: a newer frame of its source took its place
	Superseded uint64 `json:"superseded"`
	// frames that a broker had kept, and that were left alone; not among jobs
	Retained uint64   `json:"retained_ignored"`
	P50MS    *float64 `json:"p50_ms,omitempty"` // of infer, over the last interval
	P95MS    *float64 `json:"p95_ms,omitempty"` // of infer, over the last interval
	// latency expected of the operating member over its unloaded profile; 1 is no load
	Slowdown *float64 `json:"slowdown,omitempty"`
	Outbox   int      `json:"outbox"` // answers and events waiting for the link
	// by which an operator's clock is ahead of the device's; absent if none told within a day
	ClockOffset *float64 `json:"clock_offset_ms,omitempty"`
	// W of the whole board, or of the processors where only they are measured
	PowerW *float64 `json:"power_w,omitempty"`

	// left of the machine's memory or of the agent's control group, whichever is less
	MemHeadroom *float64 `json:"mem_headroom_percent,omitempty"`
	// share of the last 10 s in which a task waited for memory (PSI)
	MemPressure *float64 `json:"mem_pressure_percent,omitempty"`
	// °C a minute by which the hottest sensor that ever moved rose over the last minute
	TempTrend *float64 `json:"temp_trend_c_per_min,omitempty"`
	// a sensor is within 5 °C of where the kernel throttles
	NearTrip     *bool    `json:"near_trip,omitempty"`
	GPUPercent   *float64 `json:"gpu_percent,omitempty"`   // of the GPU's time
	ClockPercent *float64 `json:"clock_percent,omitempty"` // of the processors' full clock, their mean
	Throttled    *bool    `json:"throttled,omitempty"`     // something keeps a processor from its full clock
	// J of the whole board over the last interval, by the frames answered with classes in it
	Joules *float64 `json:"joules_per_inference,omitempty"`
	// s of processors the agent used likewise; where energy is not measured
	CPUSeconds *float64 `json:"cpu_s_per_inference,omitempty"`
	// W with no inference running, as learnt from load that came and went
	IdleW     *float64   `json:"idle_w,omitempty"`
	ActiveW   *float64   `json:"active_w,omitempty"`  // W more while one runs
	Stages    *Stages    `json:"stages,omitempty"`    // absent if no job ended in the last interval
	Decisions []Decision `json:"decisions,omitempty"` // the newest, newest first
}

// Decision is what the governor did with a job, and what else it could have done.
type Decision struct {
	TS          Time     `json:"ts"`
	Member      string   `json:"member"` // chosen; of a refusal, the one that came closest
	Reason      string   `json:"reason"`
	SlackMS     float64  `json:"slack_ms"`           // left to the deadline; negative when it had passed
	Waiting     int      `json:"waiting"`            // jobs behind this one, at most 16
	PredictedMS float64  `json:"predicted_ms"`       // of infer
	Chance      float64  `json:"chance"`             // to be in time, in [0, 1]
	InferMS     *float64 `json:"infer_ms,omitempty"` // absent if the job was refused, or still runs
	Belief      string   `json:"belief"`             // about the load, in words
	Options     []Option `json:"options"`            // the members in use, by rising latency
}

// Option is what a member was worth to a decision.
type Option struct {
	Member      string  `json:"member"`
	PredictedMS float64 `json:"predicted_ms"`
	Chance      float64 `json:"chance"` // to be in time, in [0, 1]
	Worth       float64 `json:"worth"`  // top-1 times that chance, percent
}

// Stages are the latencies of the jobs that ended in the last interval.
type Stages struct {
	Queue  Quantiles `json:"queue"`
	Decode Quantiles `json:"decode"`
	Infer  Quantiles `json:"infer"`
	Total  Quantiles `json:"total"`
}

// Quantiles are a median and a 95th percentile, in milliseconds.
type Quantiles struct {
	P50MS float64 `json:"p50_ms"`
	P95MS float64 `json:"p95_ms"`
}

// Caps is what a device can do. Its lists are written as they are, so an empty
// one must not be nil.
type Caps struct {
	Schema   Schema   `json:"schema"`
	TS       Time     `json:"ts"`
	Versions Versions `json:"versions"`
	Verbs    []string `json:"verbs"`
	Modes    []string `json:"modes"`
	Groups   []string `json:"groups"`
	Family   *Family  `json:"family,omitempty"`  // absent if none is loaded
	Profile  *Profile `json:"profile,omitempty"` // absent before the first one
	Members  []Member `json:"members"`           // the Pareto front, fastest first
	Power    *Power   `json:"power,omitempty"`   // absent where there is nothing to choose
	// of the machine, not of the name that it was given: 16 hexadecimal digits
	Machine    string      `json:"machine,omitempty"`
	Arch       string      `json:"arch,omitempty"`        // that the program is for, as Go names it
	Shadow     bool        `json:"shadow,omitempty"`      // it compares families: versions before took them at once
	Metrics    string      `json:"metrics,omitempty"`     // HOST:PORT; without HOST at all of its addresses
	Release    *Release    `json:"release,omitempty"`     // that runs; absent where no launcher started it
	Update     *UpdateStep `json:"update,omitempty"`      // under way, of a family or a release
	LastUpdate *LastUpdate `json:"last_update,omitempty"` // the last one that ended, of either
}

// Power is the power modes of a board.
type Power struct {
	Modes []string `json:"modes"` // in the board's order
	// in force when the device connected, or since a command set it; absent if unknown
	Mode string `json:"mode,omitempty"`
	// the same modes, with what is known of each; versions before had none
	List []PowerMode `json:"list"`
}

// PowerMode is one power mode of a board.
type PowerMode struct {
	Name   string      `json:"name"`
	ID     int         `json:"id"` // nvpmodel's number; where there is no nvpmodel, the place in the list
	Reboot PowerReboot `json:"reboot"`
}

// PowerReboot tells whether setting a mode takes a reboot of the board.
type PowerReboot string

// What a board is known to need: the last attempt to set the mode decides.
const (
	RebootNone     PowerReboot = "none"
	RebootRequired PowerReboot = "required"
	RebootUnknown  PowerReboot = "unknown"
)

// Versions are those of the software on the device.
type Versions struct {
	Agent   string `json:"agent"`
	Runtime string `json:"runtime,omitempty"` // ONNX Runtime; absent if there is none
}

// Family names a family and the digest of its manifest.
type Family struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // "sha256:" and hex digits
}

// Profile is when and under which load the members' latencies were taken.
type Profile struct {
	TS            Time     `json:"ts"`
	Provider      string   `json:"provider"` // execution provider, such as "cpu"
	Threads       int      `json:"threads"`
	OthersPercent *float64 `json:"others_percent,omitempty"` // CPU of all but the agent
}

// Member is a point of the Pareto front on this device.
type Member struct {
	Name       string   `json:"name"`
	Top1       float64  `json:"top1"`             // validation accuracy, in [0, 1]
	MMACs      float64  `json:"mmacs"`            // millions of multiply-accumulates
	Resolution int      `json:"resolution"`       // input side, in pixels
	P50MS      *float64 `json:"p50_ms,omitempty"` // unloaded; absent if not yet profiled
	P95MS      *float64 `json:"p95_ms,omitempty"`
}

// Event is something that happened on a device. Its severity is in the topic.
type Event struct {
	Schema Schema    `json:"schema"`
	TS     Time      `json:"ts"`
	Kind   EventKind `json:"kind"`
	Detail string    `json:"detail"`
	From   string    `json:"from,omitempty"` // of a switch: the member before
	// of a switch: the member now; of memory: the one that went or came; of infeasible and progress: the one in question
	Member string `json:"member,omitempty"`
	// how many of this kind since the last event told of; of a gap: the records that were lost, 0 where that
	// is not known
	Count uint64 `json:"count,omitempty"`
	// of a gap: "result", "event" or "control"
	Class string `json:"class,omitempty"`
	// of a gap, why: "quota", "age", "count", "space", "disk" or "damage"; of an update that went back:
	// "crash", "hang", "no_link", "canary", "inference" or "state"
	Reason string `json:"reason,omitempty"`
	Tail   string `json:"tail,omitempty"`  // of an update that went back: its last words on stderr, up to 16 KiB
	Bytes  int64  `json:"bytes,omitempty"` // of a gap: topics and payloads that were lost, as far as known
	// of a gap: the first number that was lost. None of its class from there to last was or will be delivered.
	First uint64 `json:"first,omitempty"`
	Last  uint64 `json:"last,omitempty"` // of a gap: the last number that was lost
}

// Sync is where a device stands when it connects.
type Sync struct {
	Schema  Schema `json:"schema"`
	TS      Time   `json:"ts"`
	BootID  string `json:"boot_id"`
	ConnSeq uint64 `json:"conn_seq"`
	Version uint64 `json:"version"` // of the desired state last applied; 0 if none
	Seq     uint64 `json:"seq"`     // of the last answer
	Outbox  int    `json:"outbox"`  // records about to be drained
}

// Synced answers a Sync with what time it is. It repeats what it answers, since it may
// reach another connection than the one that asked.
type Synced struct {
	Schema  Schema `json:"schema"`
	TS      Time   `json:"ts"` // by the clock of the operator
	BootID  string `json:"boot_id"`
	ConnSeq uint64 `json:"conn_seq"`
}
