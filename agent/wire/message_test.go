package wire_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// noon is the instant of every golden message.
func noon() wire.Time {
	return wire.At(time.Date(2026, 1, 31, 13, 0, 0, 123_456_789, time.FixedZone("", 3600)))
}

type message struct {
	name  string // of the golden file; the part before "-" names the schema
	value any
}

func messages() []message {
	return append(jobMessages(), append(deviceMessages(), append(controlMessages(), fleetMessages()...)...)...)
}

func jobMessages() []message {
	return []message{
		{"result-ok", wire.Result{
			ID: "frame-17", Status: wire.OK, Device: "desk", BootID: "b3f1", Seq: 17, TS: noon(), Family: "stock", Member: "s3",
			ExpectedTop1: new(0.873), Classes: []wire.Class{{"cat", 3, 0.9}, {"dog", 5, 0.08}, {"deer", 4, 0.01},
				{"frog", 6, 0.006}, {"bird", 2, 0.004}},
			MS:         &wire.Timing{Queue: 0.21, Decode: 1.5, Infer: 6.125, Total: 8.2, Predicted: 6.4},
			DeadlineMS: 50, Met: true, Choice: "most accurate that meets the deadline",
		}},
		{"result-source", wire.Result{
			ID: "front-b3f10a2c-7", Source: "front", Status: wire.OK, Device: "desk", BootID: "b3f10a2c55aa0011", Seq: 21,
			TS: noon(), Family: "stock", Member: "s3",
			Classes: []wire.Class{{Label: "cat", Index: 3, P: 0.9}}, MS: &wire.Timing{Queue: 0.2, Infer: 7.5, Total: 8.2},
			DeadlineMS: 50, Met: true, Choice: "best",
		}},
		{"result-refused", wire.Result{
			ID: "frame-18", Status: wire.Refused, Reason: wire.Invalid, Detail: "neither JPEG nor PNG", Device: "desk",
			BootID: "b3f1", Seq: 18, TS: noon(),
			Family: "stock", MS: &wire.Timing{Queue: 0.2, Decode: 0.01, Total: 0.21}, DeadlineMS: 100,
		}},
		{"result-cascade", wire.Result{
			ID: "frame-18", Status: wire.OK, Device: "desk", BootID: "b3f1", Seq: 18, TS: noon(), Family: "stock", Member: "s3",
			Classes: []wire.Class{{Label: "cat", Index: 3, P: 0.9}}, MS: &wire.Timing{Queue: 0.2, Infer: 7.5, Total: 8.2},
			DeadlineMS: 50,
			Met:        true, Choice: "best", Cascade: &wire.Cascade{First: "s0", P: 0.41},
		}},
		{"result-batch", wire.Result{
			ID: "frame-20", Status: wire.OK, Device: "desk", BootID: "b3f1", Seq: 20, TS: noon(), Family: "stock", Member: "s3",
			Classes: []wire.Class{{Label: "cat", Index: 3, P: 0.9}}, MS: &wire.Timing{Queue: 2.5, Infer: 7.5, Total: 10},
			DeadlineMS: 50,
			Met:        true, Choice: "batch", Batch: 4,
		}},
		{"result-minimal", wire.Result{
			ID: "frame-19", Status: wire.Refused, Reason: wire.Unsupported, Detail: "no ONNX Runtime: set ONNXRUNTIME_LIB",
			Device: "desk", BootID: "b3f1", Seq: 19, TS: noon(), Late: true,
		}},
		{"header-full", wire.Header{Codec: wire.JPEG, DeadlineMS: new(50.0), MinTop1: new(0.7), Priority: wire.High,
			Source: "front", TS: "2026-01-31T12:00:00Z", Trace: "cam-1"}},
		{"header-raw", wire.Header{Codec: wire.NV12, Width: 640, Height: 480}},
		{"header-empty", wire.Header{}},
	}
}

func deviceMessages() []message {
	q := wire.Quantiles{P50MS: 1.5, P95MS: 2.25}
	return []message{
		{"state-online", wire.State{State: wire.Online, BootID: "b3f1", ConnSeq: 3, TS: noon()}},
		{"state-lost", wire.State{State: wire.Lost, BootID: "b3f1", ConnSeq: 3, TS: noon()}},
		{"state-unfit", wire.State{State: wire.Online, BootID: "b3f1", ConnSeq: 1, TS: noon(),
			Detail: "no ONNX Runtime: set ONNXRUNTIME_LIB"}},
		{"telemetry-full", wire.Telemetry{
			TS: noon(), Mode: "balanced", Member: "s3", CPUPercent: new(71.5), OthersPercent: new(0.0), Pressure: new(12.5),
			MemPercent: new(40.2), Load1: new(1.25),
			TempsC: map[string]float64{"CPU-therm": 41.5}, Queue: 2, Jobs: 1000, Refused: 3, Missed: 10, Superseded: 40,
			Retained: 1, P50MS: new(6.1), P95MS: new(9.0), Slowdown: new(1.2), Outbox: 4, ClockOffset: new(-1250.5), PowerW: new(5.5),
			MemHeadroom: new(35.5), MemPressure: new(0.2), TempTrend: new(-1.5), NearTrip: new(false), GPUPercent: new(15.2),
			ClockPercent: new(50.0), Throttled: new(true),
			Joules: new(0.125), CPUSeconds: new(0.0125), IdleW: new(4.25), ActiveW: new(3.5),
			Stages: &wire.Stages{Queue: q, Decode: q, Infer: q, Total: q},
		}},
		{"telemetry-goal", wire.Telemetry{TS: noon(), Mode: "goal", Goal: &wire.Goal{DeadlineMS: new(33.3),
			Prefer: wire.PreferLatency}, Member: "s3"}},
		{"telemetry-unknown", wire.Telemetry{TS: noon()}},
		{"telemetry-decisions", wire.Telemetry{TS: noon(), Decisions: []wire.Decision{
			{TS: noon(), Member: "s1", Reason: "hold", SlackMS: 47.1, Waiting: 2, PredictedMS: 12.5, Chance: 0.998,
				InferMS: new(12.1), Belief: "92 % likely alone",
				Options: []wire.Option{{Member: "s0", PredictedMS: 6.2, Chance: 1, Worth: 70}, {Member: "s1", PredictedMS: 12.5,
					Chance: 0.998, Worth: 74.85}}},
			{TS: noon(), Member: "s0", Reason: "busy", SlackMS: -3.2, PredictedMS: 6.2, Belief: "92 % likely alone",
				Options: []wire.Option{}},
		}}},
		{"caps-full", wire.Caps{
			TS: noon(), Versions: wire.Versions{Agent: "1.2.3", Runtime: "1.24.1"}, Verbs: []string{"mode"},
			Modes: []string{"balanced", "fixed:s0"}, Groups: []string{wire.Everybody, "@line2"},
			Family:  &wire.Family{Name: "stock", Digest: "sha256:" + strings.Repeat("0f", 32)},
			Profile: &wire.Profile{TS: noon(), Provider: "cpu", Threads: 1, OthersPercent: new(3.0)},
			Members: []wire.Member{{Name: "s0", Top1: 0.8, MMACs: 4.5, Resolution: 24, P50MS: new(0.9), P95MS: new(1.1)},
				{Name: "s1", Top1: 0.9, MMACs: 14, Resolution: 32}},
			Power: &wire.Power{Modes: []string{"MAXN", "MODE_15W", "MODE_30W"}, Mode: "MODE_15W", List: []wire.PowerMode{
				{Name: "MAXN", ID: 0, Reboot: wire.RebootRequired}, {Name: "MODE_15W", ID: 1, Reboot: wire.RebootNone},
				{Name: "MODE_30W", ID: 2, Reboot: wire.RebootUnknown}}},
		}},
		{"caps-metrics", wire.Caps{TS: noon(), Versions: wire.Versions{Agent: "v0.3.0"}, Verbs: []string{"mode"},
			Modes: []string{"balanced"}, Groups: []string{wire.Everybody}, Members: []wire.Member{}, Metrics: "10.0.0.17:9464"}},
		{"caps-bare", wire.Caps{TS: noon(), Versions: wire.Versions{Agent: "1.2.3"}, Verbs: []string{}, Modes: []string{},
			Groups: []string{wire.Everybody}, Members: []wire.Member{}}},
		{"event-switch", wire.Event{TS: noon(), Kind: wire.EventSwitch, Detail: "slack fell under the p95 of s3", From: "s3",
			Member: "s1", Count: 2}},
		{"event-memory", wire.Event{TS: noon(), Kind: wire.EventMemory, Detail: "s3 is taken out of use: 8.5 % of the " +
			"memory are left", Member: "s3"}},
		{"event-power", wire.Event{TS: noon(), Kind: wire.EventPower, Detail: "the board's power mode is MODE_15W; it was " +
			"MAXN"}},
		{"event-bad_id", wire.Event{TS: noon(), Kind: wire.EventBadID, Detail: "a job id is not [A-Za-z0-9_.-]{1,64}",
			Count: 1}},
		{"event-busy", wire.Event{TS: noon(), Kind: wire.EventBusy, Detail: "commands were neither carried out nor " +
			"answered: more come than this device refuses one by one", Count: 9850}},
		{"event-gap", wire.Event{TS: noon(), Kind: wire.EventGap, Detail: "1700 records (1020000 bytes) numbered 12 to " +
			"1711 were given up, of class result: more waited than the outbox may hold, see outbox.mib", Count: 1700,
			Class: "result", Reason: "quota", Bytes: 1_020_000, First: 12, Last: 1711}},
		{"event-gap_uncounted", wire.Event{TS: noon(), Kind: wire.EventGap, Detail: "an unknown number of records among " +
			"those numbered 12 to 1711 was given up, of class result: not readable on the disk any more; others in between " +
			"may have been delivered", Class: "result", Reason: "damage", First: 12, Last: 1711}},
		{"sync-first", wire.Sync{TS: noon(), BootID: "b3f1", ConnSeq: 1}},
		{"sync-later", wire.Sync{TS: noon(), BootID: "b3f1", ConnSeq: 2, Version: 4, Seq: 1000, Outbox: 12}},
		{"synced", wire.Synced{TS: noon(), BootID: "b3f1", ConnSeq: 2}},
	}
}

// fleetMessages are those of labels, of families over the air, and of rollouts.
func fleetMessages() []message {
	family := wire.Family{Name: "yard", Digest: "sha256:" + strings.Repeat("0a", 32)}
	compared := wire.Agreement{Frames: 200, Agreed: 187, Agreement: new(0.935), P95MS: new(8.25), Missed: 2}
	expiry := noon()
	asked := wire.Update{Family: &family, Sources: []string{"https://files.example/families/"},
		Probation: &wire.Probation{Frames: 500, MaxMissed: 10}, Retry: true, Force: true}
	spec := wire.RolloutSpec{Update: wire.Update{Family: &family}, Where: "label.site=berlin", Canary: []string{"cam-1"},
		Phases: []string{"1", "25%", "100%"}, Gates: []wire.Gate{{Name: wire.GateMisses, Limit: "1.2x"}}, Observe: 200,
		SoakMS: new(600_000.0), ForMS: new(86_400_000.0), MaxUnavailable: &wire.Unavailable{N: 1, Label: "site"},
		Approve: true, Follow: true, Supersede: true, Rollback: true}
	return []message{
		{"command-family", wire.Command{Update: asked, ExpiresAt: &expiry}},
		{"command-shadow", wire.Command{TTLMS: new(86_400_000.0), Update: wire.Update{Family: &family, Shadow: &wire.Shadow{
			Percent: new(5.0), Frames: new(1000), Agreement: new(0.97), Only: true}}}},
		{"command-release", wire.Command{ReleaseOrder: wire.ReleaseOrder{Version: "1.5.0", Digest: family.Digest, Downgrade: true,
			OneWay: true}, Update: wire.Update{Sources: asked.Sources, Retry: true}, ExpiresAt: &expiry}},
		{"command-cancel", wire.Command{Cancel: "r-1.1", ExpiresAt: &expiry}},
		{"ack-progress", wire.Ack{ID: "r-1.1", Verb: wire.VerbFamily, State: wire.CommandExecuting, TS: noon(),
			Progress: &wire.Progress{Step: wire.UpdateFetching, Done: 65536, Of: 183_204}}},
		{"ack-probation", wire.Ack{ID: "r-1.1", Verb: wire.VerbFamily, State: wire.CommandExecuting, TS: noon(),
			Progress: &wire.Progress{Step: wire.UpdateProbation, Done: 183_204, Of: 183_204, Frames: 120, P95MS: new(8.25), Missed: 2}}},
		{"ack-shadow", wire.Ack{ID: "r-1.1", Verb: wire.VerbFamily, State: wire.CommandExecuting, TS: noon(),
			Progress: &wire.Progress{Step: wire.UpdateShadow, Done: 183_204, Of: 183_204}, Shadow: &wire.Agreement{}}},
		{"ack-disagreement", wire.Ack{ID: "r-1.1", Verb: wire.VerbFamily, State: wire.CommandFailed, TS: noon(),
			Reason: wire.Disagreement, Detail: "187 of 200 frames agree, 0.935; 0.97 was asked for", Shadow: &compared}},
		{"ack-rolled_back", wire.Ack{ID: "r-1.1", Verb: wire.VerbFamily, State: wire.CommandFailed, Reason: wire.Infeasible,
			Detail: "21 of 87 frames missed their deadline, 20 may", RolledBack: true, TS: noon()}},
		{"caps-update", wire.Caps{TS: noon(), Versions: wire.Versions{Agent: "v0.2.0"}, Verbs: []string{"mode", "family"},
			Modes: []string{"balanced"}, Groups: []string{wire.Everybody}, Members: []wire.Member{}, Machine: "8aa3a67914c853eb",
			Update: &wire.UpdateStep{ID: "r-2.1", Family: family, Step: wire.UpdateLocked, Detail: "until 02:00"},
			LastUpdate: &wire.LastUpdate{ID: "r-1.1", Family: family, State: wire.CommandFailed, Reason: wire.Infeasible,
				Detail: "21 of 87 frames missed their deadline, 20 may", RolledBack: true, TS: noon()}}},
		{"ack-trial", wire.Ack{ID: "r-3.1", Verb: wire.VerbRelease, State: wire.CommandExecuting, TS: noon(),
			Progress: &wire.Progress{Step: wire.UpdateTrial, Done: 31_457_280, Of: 31_457_280, Frames: 12}}},
		{"caps-shadow", wire.Caps{TS: noon(), Versions: wire.Versions{Agent: "v0.3.0"}, Verbs: []string{"mode", "family"},
			Modes: []string{"balanced"}, Groups: []string{wire.Everybody}, Members: []wire.Member{}, Shadow: true,
			Update: &wire.UpdateStep{ID: "r-2.1", Family: family, Step: wire.UpdateShadow},
			LastUpdate: &wire.LastUpdate{ID: "r-1.1", Family: family, State: wire.CommandSucceeded, Shadow: &compared,
				TS: noon()}}},
		{"caps-release", wire.Caps{TS: noon(), Versions: wire.Versions{Agent: "1.4.0"}, Verbs: []string{"mode", "release"},
			Modes: []string{"balanced"}, Groups: []string{wire.Everybody}, Members: []wire.Member{}, Arch: "arm64",
			Release: &wire.Release{Version: "1.4.0", Digest: family.Digest, Slot: "a"},
			Update: &wire.UpdateStep{ID: "r-3.2", Release: &wire.Release{Version: "1.5.1", Digest: family.Digest},
				Step: wire.UpdateFetching},
			LastUpdate: &wire.LastUpdate{ID: "r-3.1", Release: &wire.Release{Version: "1.5.0", Digest: family.Digest},
				State: wire.CommandFailed, Reason: wire.Internal, Detail: "release 1.5.0 did not prove itself: no_link",
				RolledBack: true, TS: noon()}}},
		{"event-update", wire.Event{TS: noon(), Kind: wire.EventUpdate, Reason: "crash",
			Detail: "release 1.5.0 did not prove itself: crash; 1.4.0 runs again", Tail: "panic: no such board\n"}},
		{"labels", wire.Labels{Labels: map[string]string{"site": "berlin", "Line": "A-2"}}},
		{"fetch", wire.Fetch{Offset: 65536, Bytes: wire.BlobPart}},
		{"rollout_command-start", wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "r-1", Spec: &spec, TTLMS: new(10_000.0)}},
		{"rollout_command-mode", wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "r-2", ExpiresAt: &expiry,
			Spec: &wire.RolloutSpec{Mode: "low-latency"}}},
		{"rollout_command-release", wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "r-4", ExpiresAt: &expiry,
			Spec: &wire.RolloutSpec{Update: wire.Update{Sources: asked.Sources, Retry: true}, Release: &wire.RolloutRelease{
				Version: "1.5.0", Manifests: []wire.ReleaseFor{{Arch: "amd64", Digest: family.Digest}, {Arch: "arm64", Digest: family.Digest}}, Downgrade: true,
				OneWay: true}}}},
		{"rollout_command-shadow", wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "r-5", TTLMS: new(10_000.0),
			Spec: &wire.RolloutSpec{Update: wire.Update{Family: &family, Shadow: &wire.Shadow{Percent: new(5.0), Only: true}},
				Gates: []wire.Gate{{Name: wire.GateAgreement, Limit: "0.97"}}}}},
		{"rollout_command-abort", wire.RolloutCommand{Action: wire.RolloutAbort, Rollout: "r-1", Rollback: true, TTLMS: new(10_000.0)}},
		{"rollout-running", wire.Rollout{ID: "r-1", Kind: wire.VerbFamily, TS: &expiry, State: wire.RolloutWaiting,
			Why: "120 of 200 frames are known", Spec: &spec, Phase: 1, Phases: []wire.RolloutPhase{{Size: 1, State: wire.PhaseRunning,
				Counts: wire.RolloutCounts{Succeeded: 1}, Gates: []wire.RolloutGate{{Name: wire.GateMisses, Value: new(0.01),
					Limit: 0.012, LimitBy: "1.2x", Frames: 120, Verdict: wire.GateWait}}}},
			Devices: []wire.RolloutDevice{{Device: "cam-1", Machine: "8aa3a67914c853eb", State: wire.DeviceSucceeded, Attempt: 1,
				TS: &expiry}}}},
		{"rollout-large", wire.Rollout{ID: "r-3", Kind: wire.VerbMode, State: wire.RolloutDone, Parts: 2,
			Phases: []wire.RolloutPhase{{Size: 1000, State: wire.PhasePassed, Counts: wire.RolloutCounts{Succeeded: 990, Already: 10}}}}},
		{"rollout-release", wire.Rollout{ID: "r-4", Kind: wire.VerbRelease, State: wire.RolloutRunning, Phase: 1,
			Spec: &wire.RolloutSpec{Release: &wire.RolloutRelease{Version: "1.5.0",
				Manifests: []wire.ReleaseFor{{Arch: "arm64", Digest: family.Digest}}}},
			Phases:  []wire.RolloutPhase{{Size: 1, State: wire.PhaseRunning, Counts: wire.RolloutCounts{Running: 1}}},
			Devices: []wire.RolloutDevice{{Device: "cam-1", State: wire.DeviceRunning, Detail: "trial", Attempt: 1, TS: &expiry}}}},
		{"rollout-shadow", wire.Rollout{ID: "r-5", Kind: wire.VerbFamily, State: wire.RolloutFailed,
			Why: "phase 1: agreement is 0.935, the limit 0.97", Phase: 1, Phases: []wire.RolloutPhase{{Size: 1,
				State: wire.PhaseFailed, Counts: wire.RolloutCounts{Failed: 1}, Gates: []wire.RolloutGate{{
					Name: wire.GateAgreement, Value: new(0.935), Limit: 0.97, LimitBy: "0.97", Frames: 200,
					Verdict: wire.GateFail}}}},
			Devices: []wire.RolloutDevice{{Device: "cam-1", State: wire.DeviceFailed, Reason: wire.Disagreement, Attempt: 1,
				TS: &expiry, Shadow: &compared}}}},
		{"rollout-part", wire.Rollout{ID: "r-3", Devices: []wire.RolloutDevice{{Device: "cam-7", State: wire.DeviceAlready}}}},
	}
}

func controlMessages() []message {
	expiry := noon()
	return []message{
		{"desired-mode", wire.Desired{Version: 4, Mode: "balanced"}},
		{"desired-force", wire.Desired{Version: 6, Force: true, Mode: "balanced"}},
		{"desired-goal", wire.Desired{Version: 5, Goal: &wire.Goal{DeadlineMS: new(33.3), MinTop1: new(0.85),
			MaxWatts: new(7.0), Prefer: "energy"}}},
		{"reported-applied", wire.Reported{Version: 4, Status: wire.Applied, Mode: "balanced", Member: "s3"}},
		{"reported-rejected", wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Infeasible, Mode: "balanced",
			Member: "s3", Detail: "no member reaches 0.99; s5 has 0.92"}},
		{"reported-goal", wire.Reported{Version: 6, Status: wire.Applied, Mode: "goal",
			Goal: &wire.Goal{DeadlineMS: new(33.3), MinTop1: new(0.85)}, Member: "s3"}},
		{"reported-infeasible", wire.Reported{
			Version: 7, Status: wire.Rejected, Reason: wire.Infeasible, Nearest: &wire.Goal{MinTop1: new(0.92),
				Prefer: wire.PreferEnergy}, Mode: "goal",
			Goal: &wire.Goal{MinTop1: new(0.85)}, Member: "s3", Detail: "no member reaches a top-1 of 0.99",
		}},
		{"reported-conflict", wire.Reported{Version: 8, Status: wire.Rejected, AppliedVersion: 9, Reason: wire.Conflict,
			Mode: "balanced", Member: "s3", Detail: "version 9 was applied: set a greater one"}},
		{"command-goal", wire.Command{Goal: &wire.Goal{DeadlineMS: new(33.3), MinTop1: new(0.85), MaxWatts: new(7.0),
			Prefer: wire.PreferEnergy}, TTLMS: new(5000.0)}},
		{"command-power", wire.Command{PowerMode: "MODE_15W", TTLMS: new(30_000.0)}},
		{"command-at_reboot", wire.Command{PowerMode: "MODE_10W", AtReboot: true, TTLMS: new(30_000.0)}},
		{"command-allow_reboot", wire.Command{PowerMode: "MODE_10W", AllowReboot: true, ExpiresAt: &expiry}},
		{"command-expires_at", wire.Command{Mode: "balanced", ExpiresAt: &expiry}},
		{"command-ttl", wire.Command{Mode: "fixed:s0", TTLMS: new(5000.0)}},
		{"ack-succeeded", wire.Ack{ID: "c-1", Verb: "mode", State: wire.CommandSucceeded, TS: noon()}},
		{"ack-infeasible", wire.Ack{
			ID: "c-3", Verb: "goal", State: wire.CommandRejected, Reason: wire.Infeasible,
			Nearest: &wire.Goal{DeadlineMS: new(33.3), MinTop1: new(0.92)},
			Detail:  "no member reaches a top-1 of 0.99", TS: noon(),
		}},
		{"ack-failed", wire.Ack{
			ID: "c-4", Verb: "power", State: wire.CommandFailed, Reason: wire.NeedsReboot,
			Detail: "power mode MAXN: it takes a reboot, which is left to the operator", TS: noon(),
		}},
		{"ack-at_reboot", wire.Ack{ID: "c-5", Verb: "power", State: wire.CommandSucceeded,
			Detail: "takes effect at the next start", TS: noon()}},
		{"ack-rejected", wire.Ack{ID: "c-2", Verb: "dance", State: wire.CommandRejected, Reason: wire.Unsupported,
			Detail: "verbs: mode", TS: noon()}},
	}
}

func TestMessagesAreWrittenAsTheGoldenFiles(t *testing.T) {
	for _, m := range messages() {
		t.Run(m.name, func(t *testing.T) {
			got, err := json.Marshal(m.value)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("testdata", m.name+".json"))
			if err != nil {
				t.Errorf("%v\ngot  %s", err, got)
			} else if string(got)+"\n" != string(want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestEveryGoldenFileIsOfAMessage(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(files), len(messages()); got != want {
		t.Errorf("got %d golden files, want %d", got, want)
	}
}

func TestCommandExpiry(t *testing.T) {
	received := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, json string
		want       time.Duration // after receipt
		err        string
	}{
		{"ttl", `{"ttl_ms":500}`, 500 * time.Millisecond, ""},
		{"ttl with a fraction", `{"ttl_ms":0.5}`, 500 * time.Microsecond, ""},
		{"time in another zone", `{"expires_at":"2026-01-31T14:00:01.5+02:00"}`, 1500 * time.Millisecond, ""},
		{"time in the past", `{"expires_at":"2026-01-31T11:00:00Z"}`, -time.Hour, ""},
		{"none", `{"mode":"balanced"}`, 0, "has no expiry"},
		{"nulls", `{"expires_at":null,"ttl_ms":null}`, 0, "has no expiry"},
		{"both", `{"expires_at":"2026-01-31T12:00:01Z","ttl_ms":1}`, 0, "has two expiries"},
		{"ttl zero", `{"ttl_ms":0}`, 0, "ttl_ms: 0 is not in"},
		{"ttl negative", `{"ttl_ms":-1}`, 0, "ttl_ms: -1 is not in"},
		{"ttl over a year", `{"ttl_ms":1e300}`, 0, "ttl_ms: 1e+300 is not in"},
		{"time that is none", `{"expires_at":"tomorrow"}`, 0, `time "tomorrow": want RFC 3339`},
		{"time as a number", `{"expires_at":1769860800}`, 0, "want RFC 3339"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c wire.Command
			err := wire.Decode([]byte(tt.json), &c)
			var got time.Time
			if err == nil {
				got, err = c.Expiry(received)
			}
			switch {
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got %v, want ...%s...", err, tt.err)
			case tt.err == "" && (err != nil || !got.Equal(received.Add(tt.want))):
				t.Errorf("got %v, %v; want %v", got, err, received.Add(tt.want))
			}
		})
	}
}

func TestDesiredHasAVersionAndEitherModeOrGoal(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{"version":1,"mode":"balanced"}`, ""},
		{`{"version":1,"goal":{"min_top1":0}}`, ""},
		{`{"version":0,"mode":"balanced"}`, "version: want a whole number from 1"},
		{`{"mode":"balanced"}`, "version: want"},
		{`{"version":1}`, "neither mode nor goal"},
		{`{"version":1,"mode":"balanced","goal":{"min_top1":0.5}}`, "both mode and goal"},
		{`{"version":1,"goal":{}}`, "goal is empty"},
		{`{"version":1,"goal":{"deadline_ms":0}}`, "deadline_ms: 0 is not in"},
		{`{"version":1,"goal":{"min_top1":1.5}}`, "min_top1: 1.5 is not a fraction"},
		{`{"version":1,"goal":{"max_watts":0}}`, "max_watts: 0 is not over 0"},
		{`{"version":1,"goal":{"prefer":"speed"}}`, `prefer: "speed" is none of`},
	} {
		var d wire.Desired
		if err := wire.Decode([]byte(tt.json), &d); err != nil {
			t.Fatal(err)
		}
		err := d.Check()
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.json, err, tt.want)
		}
	}
}

func TestACommandAsksForWhatItsVerbSays(t *testing.T) {
	for _, tt := range []struct{ verb, json, want string }{
		{"mode", `{"mode":"balanced"}`, ""},
		{"goal", `{"goal":{"min_top1":0.5}}`, ""},
		{"mode", `{}`, "the command has no mode"},
		{"goal", `{}`, "the command has no goal"},
		{"goal", `{"mode":"balanced"}`, "mode: the verb goal takes none"},
		{"power", `{"power_mode":"MODE_15W"}`, ""},
		{"power", `{}`, "the command has no power_mode"},
		{"power", `{"mode":"balanced"}`, "mode: the verb power takes none: use the verb mode"},
		{"mode", `{"power_mode":"MAXN"}`, "power_mode: the verb mode takes none: use the verb power"},
		{"power", `{"power_mode":"MODE_15W","at_reboot":true}`, ""},
		{"power", `{"power_mode":"MODE_15W","at_reboot":true,"allow_reboot":true}`, "both at_reboot and allow_reboot"},
		{"mode", `{"mode":"balanced","shadow":{}}`, "shadow: the verb mode takes none: use the verb family"},
		{"mode", `{"mode":"balanced","at_reboot":true}`, "at_reboot, allow_reboot: the verb mode takes none: use the verb power"},
		{"goal", `{"goal":{"min_top1":0.5},"power_mode":"MAXN"}`, "power_mode: the verb goal takes none"},
		{"mode", `{"goal":{"min_top1":0.5}}`, "goal: the verb mode takes none"},
		{"mode", `{"mode":"balanced","goal":{"min_top1":0.5}}`, "goal: the verb mode takes none"},
		{"goal", `{"mode":"balanced","goal":{"min_top1":0.5}}`, "mode: the verb goal takes none"},
		{"goal", `{"goal":{}}`, "goal is empty"},
		{"goal", `{"goal":{"deadline_ms":600001,"prefer":"speed"}}`, "deadline_ms: 600001 is not in [1, 600000]; prefer: " +
			"\"speed\" is none of"},
	} {
		var c wire.Command
		if err := wire.Decode([]byte(tt.json), &c); err != nil {
			t.Fatal(err)
		}
		err := c.Check(tt.verb)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: got %v, want %q", tt.verb, tt.json, err, tt.want)
		}
		if err == nil && c.Verb() != tt.verb {
			t.Errorf("%s %s: got a command of the verb %s", tt.verb, tt.json, c.Verb())
		}
	}
}

func TestAimsAreTheSameWhateverTheirWriting(t *testing.T) {
	mode := func(name string) wire.Aim { return wire.Aim{Mode: name} }
	goal := func(g wire.Goal) wire.Aim { return wire.Aim{Mode: "goal", Goal: &g} }
	for _, tt := range []struct {
		name string
		a, b wire.Aim
		want bool
	}{
		{"a mode", mode("balanced"), mode("balanced"), true},
		{"two modes", mode("balanced"), mode("low-latency"), false},
		{"a mode and a goal", mode("goal"), goal(wire.Goal{MinTop1: new(0.5)}), false},
		{"a goal, asked for and in force", wire.Aim{Goal: &wire.Goal{MinTop1: new(0.5)}}, goal(wire.Goal{MinTop1: new(0.5)}),
			true},
		{"two floors", goal(wire.Goal{MinTop1: new(0.5)}), goal(wire.Goal{MinTop1: new(0.6)}), false},
		{"two deadlines", goal(wire.Goal{DeadlineMS: new(50.0)}), goal(wire.Goal{DeadlineMS: new(50.001)}), false},
		{"a deadline finer than comes back", goal(wire.Goal{DeadlineMS: new(33.33333)}),
			goal(wire.Goal{DeadlineMS: new(33.334)}), true},
		{"two powers", goal(wire.Goal{MaxWatts: new(5.0)}), goal(wire.Goal{MaxWatts: new(6.0)}), false},
		{"two preferences", goal(wire.Goal{Prefer: wire.PreferLatency}), goal(wire.Goal{Prefer: wire.PreferEnergy}), false},
		{"accuracy is what nothing stands for", goal(wire.Goal{MaxWatts: new(5.0), Prefer: wire.PreferAccuracy}),
			goal(wire.Goal{MaxWatts: new(5.0)}), true},
		{"accuracy alone is balanced", goal(wire.Goal{Prefer: wire.PreferAccuracy}), mode("balanced"), true},
		{"no floor is balanced", goal(wire.Goal{MinTop1: new(0.0)}), mode("balanced"), true},
	} {
		if got := tt.a.Same(tt.b); got != tt.want || tt.b.Same(tt.a) != got {
			t.Errorf("%s: got %v, want %v, and that both ways", tt.name, got, tt.want)
		}
	}
}

func TestAGoalIsSaidWithUnits(t *testing.T) {
	goal := wire.Goal{DeadlineMS: new(33.3), MinTop1: new(0.85), MaxWatts: new(7.0), Prefer: wire.PreferEnergy}
	if got, want := goal.String(), "a deadline of 33.3 ms, a top-1 of 0.85, at most 7 W, rather energy"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if goal.Deadline() != 33_300*time.Microsecond || (wire.Goal{}).Deadline() != 0 {
		t.Errorf("got %v and %v, want 33.3ms and 0", goal.Deadline(), (wire.Goal{}).Deadline())
	}
}

func TestACommandEndsOnce(t *testing.T) {
	for step, want := range map[wire.Step]bool{
		wire.CommandReceived: false, wire.CommandAccepted: false, wire.CommandExecuting: false, wire.CommandRejected: true,
		wire.CommandSucceeded: true,
		wire.CommandFailed:    true, wire.CommandTimedOut: true, wire.CommandCancelled: true, wire.CommandSuperseded: true,
	} {
		if got := step.Final(); got != want {
			t.Errorf("%s: got final %v, want %v", step, got, want)
		}
	}
}

func TestMillisKeepsMicroseconds(t *testing.T) {
	for d, want := range map[time.Duration]float64{0: 0, 1499: 0.001, 1500: 0.002, 12_345_678: 12.346, time.Second: 1000} {
		if got := wire.Millis(d); got != want {
			t.Errorf("%d ns: got %v, want %v", d, got, want)
		}
	}
}
