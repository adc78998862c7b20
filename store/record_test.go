package store

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	for _, r := range []Record{
		{Seq: 1},
		{Seq: 1 << 60, Topic: "limber/v1/demo/desk/result/7", Payload: []byte(`{"id":"7"}`), Job: "7",
			Request: DigestOf([]byte("7"))},
		{Seq: 2, Payload: make([]byte, 1<<20)},
	} {
		got, age, err := decodeRecord(r.Seq, encodeRecord(r, time.Minute))
		if err != nil || age != time.Minute || got.Topic != r.Topic || got.Job != r.Job || got.Request != r.Request ||
			!bytes.Equal(got.Payload, r.Payload) {
			t.Errorf("got %+v, %v, %v; want %+v", got, age, err, r)
		}
	}
}

func TestEveryBitOfARecordIsChecked(t *testing.T) {
	r := Record{Seq: 3, Topic: "topic", Payload: []byte("payload"), Job: "job"}
	whole := encodeRecord(r, time.Minute)
	for bit := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := decodeRecord(r.Seq, b); err == nil {
			t.Errorf("bit %d flipped: no error", bit)
		}
	}
	for n := range whole {
		if _, _, err := decodeRecord(r.Seq, whole[:n]); !errors.Is(err, errChecksum) {
			t.Errorf("cut to %d bytes: %v, want errChecksum", n, err)
		}
	}
	if _, _, err := decodeRecord(r.Seq+1, whole); !errors.Is(err, errChecksum) {
		t.Errorf("under another number: %v, want errChecksum", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(uint64(1), encodeRecord(Record{Seq: 1, Topic: "t", Payload: []byte("p"), Job: "j"}, time.Second))
	f.Add(uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, seq uint64, b []byte) {
		// The checksum keeps nearly all of them out, so put a right one on.
		if len(b) > 4 {
			sum := checksum(number(seq), b[:len(b)-4])
			b = append(b[:len(b)-4:len(b)-4], byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		}
		r, age, err := decodeRecord(seq, b)
		if err != nil {
			return
		}
		again, ageAgain, err := decodeRecord(seq, encodeRecord(r, age))
		if err != nil || age != ageAgain || again.Topic != r.Topic || again.Job != r.Job ||
			!bytes.Equal(again.Payload, r.Payload) {
			t.Errorf("%+v came back as %+v, %v", r, again, err)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	f.Add(DigestOf(nil).String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDigest(s); err == nil && !strings.EqualFold(d.String(), s) {
			t.Errorf("%q was read as %s", s, d)
		}
	})
}
