package agent_test

import (
	"bytes"
	"encoding/binary"
	"image/jpeg"
	"image/png"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/stock"
)

// patient is the longest deadline there is, in milliseconds: the job will be
// answered however busy the machine.
const patient = wire.MaxDeadlineMS

// sheet is the test images of the stock family.
var sheet = sync.OnceValues(func() (*frame.Sheet, error) { return stock.Sheet(frame.OpenSheet) })

// pngFrame is test image i.
func pngFrame(tb testing.TB, i int) []byte {
	tb.Helper()
	s, err := sheet()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := s.PNG(i)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func jpegFrame(tb testing.TB, i int) []byte {
	tb.Helper()
	img, err := png.Decode(bytes.NewReader(pngFrame(tb, i)))
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// padded makes a JPEG exactly size bytes long, with comments that decoders
// skip.
func padded(jpeg []byte, size int) []byte {
	const longest = 65535 + 2 // of one comment with its marker
	out := append([]byte{}, jpeg[:2]...)
	for missing := size - len(jpeg); missing > 0; missing = size - len(jpeg) - len(out) + 2 {
		n := min(missing, longest)
		if rest := missing - n; rest > 0 && rest < 4 {
			n -= 4 // a comment has at least four bytes
		}
		out = binary.BigEndian.AppendUint16(append(out, 0xff, 0xfe), uint16(n-2))
		out = append(out, make([]byte, n-4)...)
	}
	return append(out, jpeg[2:]...)
}

// job puts a header with a deadline, in milliseconds, before a frame.
func job(tb testing.TB, deadline float64, body []byte) []byte {
	tb.Helper()
	b, err := wire.JoinJob(wire.Header{DeadlineMS: &deadline}, body)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// rawJob is an envelope whose header may be wrong.
func rawJob(header string, body []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte("LMB1"), uint16(len(header)))
	return append(append(b, header...), body...)
}
