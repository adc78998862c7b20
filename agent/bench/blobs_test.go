package bench

import (
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// TestBlobsAreHardlyMoreOnTheWireThanTheyAre prints how fast they come as well; that
// cannot be judged while other tests run.
func TestBlobsAreHardlyMoreOnTheWireThanTheyAre(t *testing.T) {
	cfg := mqtt.Default()
	cfg.Broker = brokertest.StartMosquitto(t).Addr
	f, err := Blobs(t.Context(), cfg, t.TempDir(), 8<<20, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("MQTT %.0f MB/s, HTTP %.0f MB/s: %.2f; on the wire %.4f and %.4f of the blob", f.MQTT.Median(), f.HTTP.Median(),
		f.MQTT.Median()/f.HTTP.Median(), f.MQTTWire, f.HTTPWire)
	if f.MQTTWire > 1.05 || f.HTTPWire > 1.05 || f.MQTTWire < 1 || f.HTTPWire < 1 {
		t.Errorf("on the wire %.4f and %.4f of the blob, want at most 1.05", f.MQTTWire, f.HTTPWire)
	}
}
