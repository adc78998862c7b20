package fleet

import (
	"cmp"
	"math"
	"slices"

	"github.com/limber-edge/limber/agent/wire"
)

// Pace is what the last two telemetries of a device say of the time between them.
type Pace struct {
	Known     bool
	PerSecond float64 // jobs
	Late      float64 // of those that were not refused, in [0, 1]; NaN if there were none
}

// paceOf works out what happened between two telemetries. Counts that went back are those
// of another run.
func paceOf(before, is *wire.Telemetry) Pace {
	if is == nil || before == nil || is.Jobs < before.Jobs || is.Refused < before.Refused || is.Missed < before.Missed {
		return Pace{}
	}
	s := is.TS.Sub(before.TS.Time).Seconds()
	if s <= 0 {
		return Pace{}
	}
	jobs, refused := is.Jobs-before.Jobs, is.Refused-before.Refused
	p := Pace{true, float64(jobs) / s, math.NaN()}
	if jobs > refused {
		// One that is late may have come before.
		p.Late = min(1, float64(is.Missed-before.Missed)/float64(jobs-refused))
	}
	return p
}

// Look is why somebody should look at a device.
type Look string

// The reasons, by how much they matter: the first two alike.
const (
	LookLost     Look = "lost" // or it never said that it is there
	LookFault    Look = "fault"
	LookUpdating Look = "updating"
	LookOffline  Look = "offline"
	LookOnline   Look = "online" // there is none
)

// Looks are all there are.
func Looks() []Look { return []Look{LookLost, LookFault, LookUpdating, LookOffline, LookOnline} }

// Look is the first of the reasons that the device has.
func (d Device) Look() Look {
	switch {
	case d.State == nil || d.State.State == wire.Lost:
		return LookLost
	case d.State.Detail != "":
		return LookFault
	case d.caps().Update != nil:
		return LookUpdating
	case d.State.State != wire.Online:
		return LookOffline
	}
	return LookOnline
}

// rank is less for who is to be looked at sooner.
func (l Look) rank() int {
	return max(slices.Index(Looks(), l), 1) // the first two are alike
}

// Ranking is a live list of the devices that fit: those first that somebody should look
// at, then by name. It is for one goroutine, and costs what changes, not how many there are.
type Ranking struct {
	where   Where
	changes *Subscription
	devices map[string]*Ranked
	others  map[string]struct{} // those there that do not fit
	order   []*Ranked           // nil: not known any more
	counts  map[Look]int
	change  uint64 // the last of all
}

// Ranked is a device in a Ranking.
type Ranked struct {
	Device
	Change uint64 // another one, greater, each time that something was told of it
	look   Look
}

// Ranking begins with all that is known of the devices that fit. The caller closes it.
func (r *Registry) Ranking(where Where) *Ranking {
	return &Ranking{where: where, changes: r.Subscribe(), devices: map[string]*Ranked{}, others: map[string]struct{}{},
		counts: map[Look]int{}}
}

// Close ends it.
func (k *Ranking) Close() { k.changes.Close() }

// Update takes in what changed since the last time.
func (k *Ranking) Update() {
	for {
		d, ok := k.changes.take()
		if !ok {
			return
		}
		k.put(d)
	}
}

func (k *Ranking) put(d Device) {
	delete(k.others, d.Name)
	if !d.There() || !k.where.Fits(d) {
		if d.There() {
			k.others[d.Name] = struct{}{}
		}
		k.remove(d.Name)
		return
	}
	k.change++
	is := &Ranked{Device: d, Change: k.change, look: d.Look()}
	if was, ok := k.devices[d.Name]; ok && was.look == is.look {
		*was = *is
		return
	}
	k.remove(d.Name)
	k.devices[d.Name], k.order = is, nil
	k.counts[is.look]++
}

func (k *Ranking) remove(name string) {
	if was, ok := k.devices[name]; ok {
		delete(k.devices, name)
		k.counts[was.look]--
		k.order = nil
	}
}

// Devices are the devices in the order in which they are to be looked at. They are the
// Ranking's until the next Update.
func (k *Ranking) Devices() []*Ranked {
	if k.order != nil {
		return k.order
	}
	k.order = make([]*Ranked, 0, len(k.devices))
	for _, d := range k.devices {
		k.order = append(k.order, d)
	}
	slices.SortFunc(k.order, func(a, b *Ranked) int {
		return cmp.Or(cmp.Compare(a.look.rank(), b.look.rank()), cmp.Compare(a.Name, b.Name))
	})
	return k.order
}

// Count is how many devices there are to be looked at for a reason.
func (k *Ranking) Count(of Look) int { return k.counts[of] }

// All is how many devices there are, with those that do not fit.
func (k *Ranking) All() int { return len(k.devices) + len(k.others) }
