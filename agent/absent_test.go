package agent_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/wire"
)

// packed is a bomb: a thousand times as large when it is unpacked.
func packed(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for range 8 {
		w.Write(make([]byte, 1<<20))
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// refusedJob sends a job that is to be refused as invalid, and returns why it was.
func (o *operator) refusedJob(cfg config.Config, id string, payload []byte) string {
	o.tb.Helper()
	o.publish(self(cfg).Job(id), payload)
	r := o.result(cfg, id, 1)
	if r.Status != wire.Refused || r.Reason != wire.Invalid {
		o.tb.Errorf("%s: got %s %s %q, want refused: invalid", id, r.Status, r.Reason, r.Detail)
	}
	return r.Detail
}

// There is no compression of payloads, and no field that asks for one.
func TestP12_WhatIsPackedIsRefusedAndNotUnpacked(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	bomb := packed(t)
	text := []byte(base64.StdEncoding.EncodeToString(jpegFrame(t, 0)))
	for id, tt := range map[string]struct {
		payload []byte
		says    string
	}{
		"gzip":          {bomb, "gzip; publish the picture without it"},
		"gzip-declared": {rawJob(`{"content_encoding":"gzip","deadline_ms":600000}`, bomb), "gzip; publish"},
		"gzip-codec":    {rawJob(`{"codec":"gzip"}`, bomb), "jpeg"},
		"base64":        {text, "base64"},
		"base64-named":  {rawJob(`{"encoding":"base64","deadline_ms":600000}`, text), "base64"},
	} {
		if got := o.refusedJob(cfg, id, tt.payload); !strings.Contains(got, tt.says) {
			t.Errorf("%s: got %q, want %q", id, got, tt.says)
		}
	}
}

// There is no response topic: the answer of a job goes where its id says, whatever
// the job says.
func TestP16_AJobCannotChooseWhereItsAnswerGoes(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr, rig{})
		frame := pngFrame(t, 0)
		var ids []string
		topics := []string{self(cfg).Cmd("mode", "x"), "limber/v1/demo/other/desired", "limber/#", "+/x", "$SYS/x", ""}
		for i, topic := range topics {
			id := fmt.Sprint("chosen-", i)
			ids = append(ids, self(cfg).Result(id))
			o.publish(self(cfg).Job(id), rawJob(fmt.Sprintf(
				`{"response_topic":%q,"result_topic":%[1]q,"reply_to":%[1]q,"deadline_ms":600000}`, topic), frame))
			if r := o.result(cfg, id, 1); r.Status != wire.OK {
				t.Errorf("%s: got %+v, want an answer", topic, r)
			}
		}
		for i, source := range []string{"../x", "a/b", "#", "+", "$SYS"} {
			id := fmt.Sprint("source-", i)
			ids = append(ids, self(cfg).Result(id))
			o.refusedJob(cfg, id, rawJob(fmt.Sprintf(`{"source":%q}`, source), frame))
		}
		o.fence()
		for _, m := range o.matching("#") {
			if strings.Contains(m.Topic, "/result/") && !slices.Contains(ids, m.Topic) || strings.Contains(m.Topic, "other") {
				t.Errorf("an answer on %s", m.Topic)
			}
		}
	})
}

// There are no batches of jobs: a message is one frame and has one answer.
func TestP17_AMessageIsOneFrame(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	frame := pngFrame(t, 0)
	for i, batch := range []string{"0", "1", "1000000", "-1", `[{"codec":"png"},{"codec":"png"}]`} {
		id := fmt.Sprint("batch-", i)
		o.publish(self(cfg).Job(id), rawJob(`{"deadline_ms":600000,"batch":`+batch+`}`, frame))
		if r := o.result(cfg, id, 1); r.Status != wire.OK || r.Batch != 0 {
			t.Errorf("batch %s: got %+v, want an answer to one frame", batch, r)
		}
	}
	for id, payload := range map[string][]byte{
		"none":         rawJob(`{"deadline_ms":600000}`, nil),
		"envelopes":    rawJob(`{"deadline_ms":600000}`, job(t, patient, frame)),
		"list":         []byte(`["/9j/4AAQ","/9j/4AAQ"]`),
		"two-raw":      rawJob(`{"codec":"gray","width":8,"height":8,"deadline_ms":600000}`, make([]byte, 128)),
		"array-header": rawJob(`[{},{}]`, frame),
		"two-envelopes": slices.Concat(
			rawJob(`{"codec":"rgb","width":1,"height":1}`, make([]byte, 3)), job(t, patient, frame)),
	} {
		o.refusedJob(cfg, id, payload)
	}
	o.publish(self(cfg).Job("two-pictures"), job(t, patient, slices.Concat(frame, pngFrame(t, 1))))
	if first := o.result(cfg, "two-pictures", 1); first.Status != wire.OK {
		t.Errorf("two pictures: got %+v, want the first one's answer", first)
	}
	o.fence()
	if n := len(o.matching(self(cfg).Result("#"))); n != 12 {
		t.Errorf("%d answers to 12 messages", n)
	}
}
