package frame

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWhatIsNoFrameIsRefusedWithWhatItLooksLike(t *testing.T) {
	jpeg, png, webp := mustRead(t, "testdata/pil-420.jpg"), mustRead(t, "testdata/pil-1x40.png"),
		mustRead(t, "testdata/pil-lossy.webp")
	encode := base64.StdEncoding.EncodeToString
	for _, tt := range []struct{ name, body, want string }{
		{"base64", encode(jpeg), "base64 of a JPEG; decode it"},
		{"base64 of a PNG with line ends", "\r\n" + encode(png), "base64 of a PNG; decode it"},
		{"base64 of a WebP", encode(webp), "base64 of a WebP"},
		{"data URI", "data:image/jpeg;base64," + encode(jpeg), "a data URI; decode what follows its comma"},
		{"JSON", `{"temperature": 21.5}`, "JSON; publish the bytes of a picture"},
		{"JSON with a picture", `{"camera":"front", "image":"` + encode(jpeg) + `"}`,
			"JSON with a picture in it; decode its base64"},
		{"JSON with an escaped picture", `{"image":"` + strings.ReplaceAll(encode(jpeg), "/", `\/`) + `"}`,
			"JSON with a picture in it"},
		{"JSON with a data URI", `[{"image": "data:image/png;base64,` + encode(png), "JSON with a picture in it"},
		{"JSON string of a picture", `"` + encode(png) + `"`, "JSON with a picture in it"},
		{"JSON after a byte order mark", "\ufeff{}", "JSON; publish"},
		{"hexadecimal", hex.EncodeToString(jpeg), "hexadecimal digits"},
		{"Python literal", `b'\xff\xd8\xff\xe0\x00\x10JFIF`, "a Python bytes literal"},
		{"MJPEG part", "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n" + string(jpeg),
			"multipart stream (MJPEG)"},
		{"MJPEG part after a line end", "\r\n--myboundary\r\ncontent-type: image/jpeg\r\n\r\n" + string(jpeg),
			"multipart stream (MJPEG)"},
		{"HTTP response", "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + string(jpeg),
			"an HTTP response; publish its body alone"},
		{"web page", "<!DOCTYPE html><html>401", "a web page"},
		{"P8 SVG", "<svg xmlns=", "an SVG"},
		{"P8 SVG as XML", `<?xml version="1.0"?><svg xmlns=`, "an SVG"},
		{"BMP", "BM\x36\x00\x0c\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00",
			"a BMP; convert it to JPEG, PNG or WebP, or send its pixels raw with codec bgr"},
		{"GIF", "GIF89a\x01\x00\x01\x00", "a GIF; convert it"},
		{"P5 GIF of 10,000 pictures", "GIF89a" + strings.Repeat("\x21\xf9\x04\x00\x00\x00\x00\x00", 10_000),
			"a GIF; convert it"},
		{"P8 TIFF", "II*\x00\x08\x00\x00\x00", "a TIFF"},
		{"P8 HEIC", "\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"},
		{"AVIF", "\x00\x00\x00\x1cftypavif\x00\x00\x00\x00", "AVIF"},
		{"MP4", "\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", `a video or picture of the kind "isom"`},
		{"AVI", "RIFF\x00\x00\x00\x00AVI LIST", `a RIFF file of the kind "AVI "`},
		{"H.264", "\x00\x00\x00\x01\x67\x42", "codec nv12"},
		{"NumPy", "\x93NUMPY\x01\x00", "tobytes()"},
		{"P12 gzip", "\x1f\x8b\x08\x00", "gzip; publish the picture without it"},
		{"JPEG lost in UTF-8", string(lossy(jpeg)), "a JPEG whose bytes were decoded as UTF-8"},
		{"PNG lost in UTF-8", string(lossy(png)), "a PNG whose bytes were decoded as UTF-8"},
		{"JPEG encoded as UTF-8", string(latin(jpeg)), "a JPEG whose bytes were encoded as UTF-8"},
		{"PNG encoded as UTF-8", string(latin(png)), "a PNG whose bytes were encoded as UTF-8"},
		{"JPEG in ASCII", "????\x00\x10JFIF\x00", "a JPEG whose bytes were decoded"},
		{"PNG in text mode", strings.ReplaceAll(string(png), "\r\n", "\n"), "a PNG whose line ends were translated"},
		{"envelope backwards", "1BML\x02\x00{}" + string(jpeg), "an envelope in the wrong byte order"},
		{"envelope of a later version", "LMB2\x00\x02{}" + string(jpeg), "an envelope of another version"},
		{"picture behind other bytes", "\x00\x01\x02" + string(jpeg), "a jpeg after 3 other bytes"},
		{"nothing known", "\x17\x2a\xfe", "a raw one needs a header with codec, width and height"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := limits.Inspect([]byte(tt.body), Claim{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrUnsupported) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

// lossy is what becomes of bytes that are decoded as UTF-8 with replacement.
func lossy(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		out, b = utf8.AppendRune(out, r), b[n:]
	}
	return out
}

// latin is what becomes of bytes that are taken for Latin-1 and encoded as UTF-8.
func latin(b []byte) []byte {
	var out []byte
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

// What is said of a frame must cost the same for one of any size.
func TestP12_OnlyTheFirstBytesOfAForeignFrameAreLookedAt(t *testing.T) {
	for _, begin := range []string{`{"a":"`, "--x\r\n", "/9j/", "data:", "\ufffd\ufffd\ufffd", "x", "  ", "\x1f\x8b"} {
		short := []byte(begin + strings.Repeat("x", hintBytes))
		long := append(bytes.Clone(short), bytes.Repeat([]byte(`"/9j/ Content-Type: `), foreignLines)...)
		var a, b error
		_, a = limits.Inspect(short, Claim{})
		n := allocated(func() { _, b = limits.Inspect(long, Claim{}) })
		if a == nil || b == nil || a.Error() != b.Error() || n > 1<<16 {
			t.Errorf("%q: got %v and %v, %d bytes allocated", begin, a, b, n)
		}
	}
}

func FuzzForeign(f *testing.F) {
	for _, s := range []string{"", "{", `{"`, "--", "RIFF", "BM", "\ufeff", "\x00\x00\x00\x18ftyp", "data:", "LMB"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if s := fmt.Sprint(foreign(body)); len(s) > 400 || strings.Contains(s, "\n") || !utf8.ValidString(s) {
			t.Errorf("%q: %q", body, s)
		}
	})
}
