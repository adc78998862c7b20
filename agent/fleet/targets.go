package fleet

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/limber-edge/limber/agent/wire"
)

// Target is a device that Prometheus can read, as its file_sd and http_sd have it: a
// group of one, since no two devices have the same labels.
type Target struct {
	Targets []string          `json:"targets"` // its one address, HOST:PORT
	Labels  map[string]string `json:"labels"`
}

// TargetOf is where Prometheus reads the device, ok if it said so. Of one that listens at
// all of its addresses it said the port only: host is its name in the network, in which
// {device} stands for the device's; without host there is no target. Nor is there one at
// the machine of who reads, which no agent says: it would read its own neighbours.
func TargetOf(fleet string, d Device, host string) (t Target, ok bool) {
	said, port, err := net.SplitHostPort(d.caps().Metrics)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || isReader(said) {
		return Target{}, false
	}
	if said == "" {
		said = strings.ReplaceAll(host, "{device}", d.Name)
	}
	if !validHost(said) {
		return Target{}, false
	}
	return Target{Targets: []string{net.JoinHostPort(said, port)}, Labels: d.scrapeLabels(fleet)}, true
}

// validHost tells whether s is a name or an address, and nothing that reaches into the
// path of a URL.
func validHost(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != ':' && (r >= 0x80 || !wire.ValidName(string(r)))
	})
}

// isReader tells whether a host is the machine of whoever asks for it.
func isReader(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsUnspecified()
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// scrapeLabels are what all series of the device have. An instance is a device, as the
// dashboard has it.
func (d Device) scrapeLabels(fleet string) map[string]string {
	labels := map[string]string{"fleet": fleet, "device": d.Name, "instance": d.Name}
	if family, _ := d.family(); family != "" {
		labels["family"] = Printable(family)
	}
	if v := d.caps().Versions.Agent; v != "" {
		labels["version"] = Printable(v)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Labels)) {
		name := "label_" + strings.NewReplacer(".", "_", "-", "_").Replace(key) // what a name in Prometheus may hold
		if labels[name] == "" {
			labels[name] = d.Labels[key]
		}
	}
	return labels
}
