package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// A deadline counts from receipt by the agent. A job without one has
// DefaultDeadline.
const (
	MinDeadlineMS   = 1
	MaxDeadlineMS   = 600_000
	DefaultDeadline = 100 * time.Millisecond
)

// The codecs a header may declare. Of the last four, which are raw samples, it
// must, with width and height.
const (
	JPEG = "jpeg"
	PNG  = "png"
	WebP = "webp"
	RGB  = "rgb"
	BGR  = "bgr"
	Gray = "gray"
	NV12 = "nv12"
)

// The classes a header may ask for; a job without one is Normal.
const (
	Low    = "low"
	Normal = "normal"
	High   = "high"
)

// magic begins a job that has a header: magic, header length (uint16, big
// endian), header (JSON), body.
const magic = "LMB1"

// prefixLen is the length of magic and header length, in bytes.
const prefixLen = len(magic) + 2

// Header is what plain image bytes cannot say. Absent fields are nil or empty.
type Header struct {
	Codec      string   `json:"codec,omitempty"`  // JPEG, PNG, WebP, RGB, BGR, Gray or NV12
	Width      int      `json:"width,omitempty"`  // of a raw frame, in pixels; who decodes it judges it
	Height     int      `json:"height,omitempty"` // likewise
	DeadlineMS *float64 `json:"deadline_ms,omitempty"`
	MinTop1    *float64 `json:"min_top1,omitempty"` // in [0, 1]
	Priority   string   `json:"priority,omitempty"` // Low, Normal or High
	Source     string   `json:"source,omitempty"`   // who sends; on frame/{source} the topic says so
	TS         string   `json:"ts,omitempty"`       // when the frame was taken; a label, nothing depends on it
	Trace      string   `json:"trace,omitempty"`    // the sender's mark; a label
}

// Deadline is how long after receipt the answer is due.
func (h Header) Deadline() time.Duration {
	if h.DeadlineMS == nil {
		return DefaultDeadline
	}
	return duration(*h.DeadlineMS)
}

func (h Header) check() error {
	switch h.Codec {
	case "", JPEG, PNG, WebP, RGB, BGR, Gray, NV12:
	default:
		return fmt.Errorf("codec: %.40q is not supported, want jpeg, png, webp, or of raw frames rgb, bgr, gray or nv12",
			h.Codec)
	}
	switch h.Priority {
	case "", Low, Normal, High:
	default:
		return fmt.Errorf("priority: %.40q is not known, want %s, %s or %s", h.Priority, Low, Normal, High)
	}
	if h.Source != "" && !ValidSource(h.Source) {
		return fmt.Errorf("source: %.80q is not [A-Za-z0-9_.-]{1,%d}", h.Source, MaxSource)
	}
	if h.DeadlineMS != nil {
		if err := checkDeadline(*h.DeadlineMS); err != nil {
			return err
		}
	}
	if h.MinTop1 != nil {
		return checkTop1(*h.MinTop1)
	}
	return nil
}

// SplitJob separates the header of a job from its body. A payload without an
// envelope is all body, its header is zero. The body shares the payload's
// memory.
func SplitJob(payload []byte) (Header, []byte, error) {
	if len(payload) < len(magic) || string(payload[:len(magic)]) != magic {
		return Header{}, payload, nil
	}
	if len(payload) < prefixLen {
		return Header{}, nil, fmt.Errorf("envelope: %d bytes end before the header length", len(payload))
	}
	n := int(binary.BigEndian.Uint16(payload[len(magic):]))
	rest := payload[prefixLen:]
	if turned := int(binary.LittleEndian.Uint16(payload[len(magic):])); !isObject(rest, n) && isObject(rest, turned) {
		return Header{}, nil, fmt.Errorf("envelope: the header length is in the wrong byte order, as %d: write %d big endian",
			n, turned)
	}
	if n > len(rest) {
		return Header{}, nil, fmt.Errorf("envelope: the header has %d bytes, but only %d follow", n, len(rest))
	}
	var h Header
	if err := Decode(rest[:n], &h); err != nil {
		return Header{}, nil, fmt.Errorf("envelope header: %w", err)
	}
	if err := h.check(); err != nil {
		return Header{}, nil, fmt.Errorf("envelope header: %w", err)
	}
	return h, rest[n:], nil
}

// isObject tells whether the first n bytes may be a JSON object.
func isObject(b []byte, n int) bool { return 2 <= n && n <= len(b) && b[0] == '{' && b[n-1] == '}' }

// JoinJob puts a header before a body.
func JoinJob(h Header, body []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("envelope header: %w", err)
	}
	header, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("envelope header: %w", err)
	}
	if len(header) > math.MaxUint16 {
		return nil, fmt.Errorf("envelope header: %d bytes are more than %d", len(header), math.MaxUint16)
	}
	out := make([]byte, 0, prefixLen+len(header)+len(body))
	out = append(out, magic...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(header)))
	out = append(out, header...)
	return append(out, body...), nil
}
