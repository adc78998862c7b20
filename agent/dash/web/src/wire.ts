// What travels between the page and its server, field by field as agent/dash/message.go has
// it: a test there compares the two. Times are RFC 3339 in UTC; *_ms are milliseconds,
// shares are in [0, 1], *_percent are percentages.
//
// GET api/events?where=EXPR&only=LOOK&from=0&to=60[&device=NAME][&rollouts=1][&rollout=ID]
// is a stream of Messages, each an event without a name. The query is the screen: what is
// not on it is not told of, and another screen is another stream.
//   where     as of `limber fleet watch --where`; empty: all devices
//   only      of those, the devices with this Look; counts are of where alone
//   from, to  the window of the list on the screen, in its order: the tiles or, with
//             rollout, the devices of that; to 0: neither is shown
//   device    DeviceScreen is told
//   rollouts  RolloutsScreen is told
//   rollout   RolloutScreen is told
//
// POST api/devices/NAME/mode, .../goal        AimBody -> Outcome
// POST api/rollouts/ID/pause, resume, approve, abort  ActBody -> Outcome
// POST api/steer                              {} -> Outcome, where the token is right
// with content-type application/json and authorization "Bearer TOKEN". What the device or
// the controller answered is an Outcome with status 200, also that it failed; else it is a
// Fault: 400 the request is wrong, 401 the token is, 403 it may not steer, 409 nobody there
// to answer, 503 no connection.

/** Whether the page may steer: none: the server has no token file; token: with its token;
 * denied: the broker dropped what was sent last, its user may not steer. */
export type Steer = "none" | "token" | "denied";

/** Why somebody should look at a device; online: there is no reason. Devices come in this
 * order, lost and fault alike, and by name. */
export type Look = "lost" | "fault" | "updating" | "offline" | "online";

/** Message is what a stream tells: all that is on its screen at first, then what of it
 * has changed. What is absent is as it was. */
export interface Message {
  first?: boolean; // nothing that was told before counts any more
  fleet?: string; // its name; with First alone
  link?: Link;
  steer?: Steer;
  where_error?: WhereError; // what is wrong with the expression; no device fits then
  counts?: Counts;
  order?: string[]; // the names in the window, those to be looked at first
  tiles?: Record<string, Tile>; // of the window, those that changed
  device?: DeviceScreen;
  rollouts?: RolloutsScreen;
  rollout?: RolloutScreen;
}

/** Link is how it stands with the broker. */
export interface Link {
  ok: boolean;
  settled: boolean; // all that the broker retains has been read once
  broker: string; // URL, without a password
  trouble?: string; // what is wrong with it
  since?: string; // since when
}

/** WhereError is what is wrong with an expression. */
export interface WhereError {
  at: number; // bytes into it, from 0
  text: string;
}

/** Counts are numbers of devices. Those of the five looks add up to Fit. */
export interface Counts {
  devices: number; // in the fleet
  fit: number; // the expression
  lost: number;
  fault: number;
  updating: number;
  offline: number;
  online: number;
  more?: boolean; // there is no room for all devices of the fleet, or for all that they say
}

/** Tile is a device in short. What is not known is absent; of one that is not online the
 * figures are. */
export interface Tile {
  look: Look; // lost, fault, updating, offline or online
  state?: string; // lost, offline or online
  since?: string; // when the state began; absent of one that is lost
  note?: string; // what it says of itself, or of an update
  mode?: string; // "goal" for one of figures
  member?: string;
  member_at?: number; // its place among the members, the fastest being 1
  members?: number; // how many there are
  family?: string;
  version?: string; // of the agent
  jobs_s?: number; // jobs a second
  late?: number; // of the jobs that were not refused, in [0, 1]
  p95_ms?: number; // of infer
  temp_c?: number; // of the hottest sensor
  queue?: number; // jobs waiting
  outbox?: number; // messages waiting for the link
  labels?: Record<string, string>;
}

/** DeviceScreen is one device as a whole. */
export interface DeviceScreen {
  name: string;
  known?: boolean;
  tile?: Tile;
  facts?: Fact[]; // in words with units, in order; several may have one name
  front?: Member[]; // the Pareto front, fastest first
  modes?: string[]; // that it can be set to; {member} stands for the name of each
  aim?: Aim;
  series?: Series; // points to append
  events?: DeviceEvent[]; // to append, oldest first
  decisions?: Decision[]; // to append, oldest first
  commands?: Command[]; // the last ones, oldest first
}

/** Fact is something that is known of a device, in words. */
export interface Fact {
  name: string;
  value: string;
}

/** Member is a point of the Pareto front. */
export interface Member {
  name: string;
  top1: number; // in [0, 1]
  mmacs: number; // millions of multiply-accumulates
  resolution: number; // input side, in pixels
  p50_ms?: number; // unloaded; absent if not yet measured
  p95_ms?: number;
  operating?: boolean;
}

/** Aim is what the device pursues, and what it is to. */
export interface Aim {
  mode?: string; // in force now; "goal" for one of figures
  goal?: Goal; // in force now
  status?: string;
  reason?: string;
  detail?: string;
  nearest?: Goal; // to an infeasible goal, that can be had
  desired?: Desired; // the last desired state that is meant for it
}

/** Desired is a desired state. */
export interface Desired {
  of: string; // the device, or one of its groups
  version: number;
  mode?: string;
  goal?: Goal;
}

/** Series are points over time, in columns of one length; null is unknown. */
export interface Series {
  t: number[]; // Unix time, in milliseconds
  p50_ms: (number | null)[];
  p95_ms: (number | null)[];
  others_percent: (number | null)[]; // CPU of all but the agent
  temp_c: (number | null)[]; // of the hottest sensor
  queue: (number | null)[];
  outbox: (number | null)[];
  late: (number | null)[]; // share of the jobs, in [0, 1]
  jobs_s: (number | null)[];
  member: string[]; // operating; "" unknown
}

/** DeviceEvent is something that happened on the device. */
export interface DeviceEvent {
  ts: string;
  severity: string;
  kind: string; // "switch" of a member, and others
  from?: string; // of a switch: the member before
  member?: string;
  detail?: string; // of a switch: why
  text: string; // all of it, in a sentence
}

/** Decision is what the governor did with a job, and what else it could have done. */
export interface Decision {
  ts: string;
  member: string; // chosen; of a refusal, the one that came closest
  reason: string;
  slack_ms: number; // left to the deadline; negative when it had passed
  waiting: number; // jobs behind this one, at most 16
  predicted_ms: number; // of infer
  chance: number; // to be in time, in [0, 1]
  infer_ms?: number; // absent if the job was refused, or still ran
  belief: string; // about the load, in words
  options: Option[]; // the members in use, by rising latency
}

/** Option is what a member was worth to a decision. */
export interface Option {
  member: string;
  predicted_ms: number;
  chance: number; // to be in time, in [0, 1]
  worth: number; // top-1 times that chance, percent
}

/** Command is one that the device was given, by whomever. */
export interface Command {
  id: string;
  verb: string;
  asked?: string; // in words, as far as it was heard
  state?: string; // absent: it has not answered
  reason?: string; // why it failed
  detail?: string; // how far it is, or why it failed
  ts: string; // of the answer, or when the command was heard
}

/** RolloutsScreen has those that the controller retains. */
export interface RolloutsScreen {
  trouble?: string; // of the controller; "" none
  order?: string[]; // ids, newest first
  docs?: Record<string, Rollout>; // those that changed, without their devices
}

/** RolloutScreen is one of them, with its devices as far as they are in the window: those
 * to be looked at first. */
export interface RolloutScreen {
  id: string;
  known?: boolean;
  trouble?: string; // of the controller; "" none
  doc?: Rollout; // without its devices
  total?: number; // devices in it
  order?: string[]; // names in the window
  devices?: Record<string, RolloutDevice>; // of the window, those that changed
  // what all its devices found that compared a family, by the values of their labels
  by_label?: Labelled[];
}

/** Labelled is what the devices with a value of a label found, all together. Its p95 is the
 * mean of theirs, by their frames. */
export interface Labelled {
  label: string;
  value: string;
  devices: number;
  frames: number;
  agreed: number;
  agreement?: number;
  p95_ms?: number;
  missed: number;
}

/** AimBody is the body of a request that a device be set to a mode, or to a goal. */
export interface AimBody {
  mode?: string; // of .../mode
  goal?: Goal; // of .../goal
}

/** ActBody is the body of a request that something be done with a rollout. */
export interface ActBody {
  rollback?: boolean; // of .../abort: those done go back
}

/** Outcome is the answer to a request that steers. */
export interface Outcome {
  state: string; // "succeeded", or another that a command ends in
  reason?: string; // of another
  detail?: string; // a sentence
  nearest?: Goal; // to an infeasible goal, that can be had
}

/** Fault is the answer to a request that was refused. */
export interface Fault {
  error: string; // a sentence with the remedy
}

/** Goal is what a user wants of a device, in figures. */
export interface Goal {
  deadline_ms?: number; // of jobs that name none
  min_top1?: number; // of jobs that name none, in [0, 1]
  max_watts?: number; // on average
  prefer?: string; // what to have more of within the rest
}

/** Rollout is a rollout as the controller retains it. Its devices are told apart from it,
 * see RolloutScreen. */
export interface Rollout {
  schema: 1;
  id: string;
  kind?: string;
  ts?: string; // of its start
  state?: string;
  why?: string; // it waits, was paused or has failed
  spec?: RolloutSpec; // as it was asked for, with what it left to defaults
  phase?: number; // the one under way, from 1
  phases?: RolloutPhase[];
  devices?: RolloutDevice[];
  parts?: number; // that have the devices
}

/** RolloutPhase is a part of the devices, which take it together. */
export interface RolloutPhase {
  size: number; // devices in it
  state: string;
  counts: RolloutCounts;
  gates?: RolloutGate[]; // as far as they were looked at
}

/** RolloutCounts are the devices of a phase by their states. */
export interface RolloutCounts {
  pending?: number;
  offline?: number;
  running?: number;
  succeeded?: number;
  failed?: number;
  timed_out?: number;
  already?: number;
  superseded?: number;
  cancelled?: number;
  rolled_back?: number;
}

/** RolloutGate is what became of a gate. */
export interface RolloutGate {
  name: string;
  value?: number; // absent where there is none yet
  limit?: number; // in figures, the baseline being known
  limit_by?: string; // as it was asked for
  frames: number; // that the value is of
  verdict: string; // pass, fail, or wait: there is not enough evidence
}

/** RolloutDevice is where a rollout stands on a device. */
export interface RolloutDevice {
  device: string;
  machine?: string;
  state: string; // pending, offline, running, succeeded, failed, timed_out, already, ...
  reason?: string;
  detail?: string;
  attempt?: number; // commands that it was sent, from 1
  ts?: string; // since when
  shadow?: Agreement; // what it found when it compared the family with its own
}

/** Agreement is what came of comparing a family with the one in use. */
export interface Agreement {
  frames: number; // that both answered
  agreed: number; // of these, with the same first class, by its label
  agreement?: number; // the share of those; absent without frames
  p95_ms?: number; // of the new family's infer; absent without frames
  missed: number; // frames that would have been answered after their deadline
}

/** RolloutSpec is what is rolled out, to whom, and what it must show on the way. It asks
 * for a family, a release, a mode or a goal, one of the four. */
export interface RolloutSpec {
  family?: Family;
  // URLs below which its blobs lie, by the 64 digits of their digests. The device
  // takes those that its configuration allows; without one it asks the controller.
  sources?: string[];
  shadow?: Shadow; // absent: it is not compared with the one in use
  probation?: Probation;
  retry?: boolean; // also if it failed on this device before
  force?: boolean; // do not wait for the window or the lock
  release?: RolloutRelease;
  mode?: string;
  goal?: Goal;
  where: string; // which devices; empty: all
  canary?: string[]; // devices of the first phase, before the others
  // their sizes, each a number of devices or a percentage of all such as "5%",
  // counted from the first device.
  phases?: string[];
  gates?: Gate[];
  observe?: number; // frames that a gate needs; 0: 200
  soak_ms?: number; // how long a phase is observed at least; absent: 10 minutes
  for_ms?: number; // how long it may take on a device from its start; absent: 24 hours
  max_unavailable?: Unavailable;
  approve?: boolean; // each phase waits for Approve
  follow?: boolean; // devices that come to fit later are taken into the last phase
  supersede?: boolean; // a rollout of the same kind that overlaps ends
  rollback?: boolean; // where a gate fails, those done go back
}

/** RolloutRelease is a release of the program, for devices of several architectures. */
export interface RolloutRelease {
  version: string;
  manifests: ReleaseFor[]; // one for each architecture
  downgrade?: boolean; // as of ReleaseOrder
  one_way?: boolean; // likewise
}

/** ReleaseFor names the manifest of a release for an architecture. */
export interface ReleaseFor {
  arch: string; // as Caps have it
  digest: string; // "sha256:" and hex digits
}

/** Family names a family and the digest of its manifest. */
export interface Family {
  name: string;
  digest: string; // "sha256:" and hex digits
}

/** Shadow is how a family is compared with the one in use before anything is changed: it
 * answers frames that the other one has answered, for nobody to see. */
export interface Shadow {
  percent?: number; // of the frames answered, and of a processor's time, at most; absent: 10
  frames?: number; // that both must have answered; absent: 200
  agreement?: number; // least share of these with the same first class; absent: only told
  only?: boolean; // that ends it: the family is not taken into use
}

/** Probation is what a family must show before the one that it follows is given up. */
export interface Probation {
  frames: number; // that it answers, from 0
  max_missed: number; // of these, after their deadline
}

/** Gate is a limit that a phase must keep. */
export interface Gate {
  name: string; // success, misses, p95, ...
  limit: string; // a figure such as "0.95"; with "x" behind it, times the baseline
}

/** Unavailable bounds how many devices with one value of a label are between locked and
 * committed at once. */
export interface Unavailable {
  n: number;
  label: string;
}
