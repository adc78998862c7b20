package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func TestFleetSyncTellsTheTimeUntilItIsStopped(t *testing.T) {
	t.Parallel()
	addr := mustBroker(t)
	desk := wire.Address{Fleet: "demo", Device: "desk"}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = addr, "desk"
	device, err := fleet.OpenMailbox(cfg, slog.New(slog.DiscardHandler), desk.Synced())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out, printed := io.Pipe()
	said, errs := io.Pipe()
	code := make(chan int, 1)
	var line string
	var first fleet.Synced
	err = device.While(ctx, func(ctx context.Context) error {
		go func() { code <- run(ctx, []string{"fleet", "sync", "--json", "--broker", addr}, printed, errs) }()
		var err error
		if line, err = bufio.NewReader(said).ReadString('\n'); err != nil {
			return err
		}
		go io.Copy(io.Discard, said)
		if err := askForTheTime(ctx, device, desk); err != nil {
			return err
		}
		return json.NewDecoder(out).Decode(&first)
	})
	go io.Copy(io.Discard, out)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != exitDone || first.Device != "desk" || first.BootID != "b3f1" || first.BehindMS < 3.6e6 {
		t.Errorf("exit %d, %+v; want an hour behind", got, first)
	}
	if !strings.Contains(line, "devices that connect are told the time") || !strings.Contains(line, "fleet=demo") {
		t.Errorf("it said %q before anybody asked, want what it does", line)
	}
}

func askForTheTime(ctx context.Context, device *fleet.Mailbox, desk wire.Address) error {
	b, err := json.Marshal(wire.Sync{TS: wire.At(time.Now().Add(-time.Hour)), BootID: "b3f1", ConnSeq: 1})
	if err == nil {
		err = device.Publish(ctx, mqtt.Message{Topic: desk.Sync(), Payload: b, QoS: 1})
	}
	return err
}

func TestADeviceThatIsAheadIsPrintedSo(t *testing.T) {
	var out, errs strings.Builder
	printSynced(&out, &errs, fleet.Synced{Device: "cam", ConnSeq: 3, BehindMS: -1500}, nil, false)
	printSynced(&out, &errs, fleet.Synced{Device: "cam"}, mqtt.ErrDown, false)
	if got := out.String() + errs.String(); got != "cam: connection 3, its clock is 1.5s ahead\n"+
		"cam was not told the time: broker not connected\n" {
		t.Errorf("got %q", got)
	}
}
