package frame

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// hintBytes is how much of a frame is looked at to say what it is, so that a
// refusal costs the same for every frame.
const hintBytes = 512

// foreign is the error for what is no frame: what its first bytes look like, and
// what to send instead.
func foreign(body []byte) error {
	head := body[:min(len(body), hintBytes)]
	text := bytes.TrimLeft(head, "\ufeff \t\r\n")
	for _, guess := range []func(head []byte) string{mangled, envelope, textual, container, late} {
		for _, from := range [][]byte{head, text} {
			if s := guess(from); s != "" {
				return fmt.Errorf("the frame is neither JPEG, PNG nor WebP: it looks like %s", s)
			}
		}
	}
	return errors.New("the frame is neither JPEG, PNG nor WebP; a raw one needs a header with codec, width and height")
}

// sign is a beginning of a body and what it means for the sender.
type sign struct{ begin, says string }

// says is what the first sign that head begins with says.
func says(head []byte, signs []sign) string {
	i := slices.IndexFunc(signs, func(s sign) bool { return bytes.HasPrefix(head, []byte(s.begin)) })
	if i < 0 {
		return ""
	}
	return signs[i].says
}

// mangled knows the first bytes of pictures that went through a text codec.
func mangled(head []byte) string {
	const (
		lost  = " whose bytes were decoded as UTF-8, where they were lost; publish the bytes themselves, not a string"
		twice = " whose bytes were encoded as UTF-8; publish the bytes themselves, not a string"
		lines = " whose line ends were translated; read and publish it in binary mode"
	)
	return says(head, []sign{
		{"\ufffd\ufffd\ufffd", "a JPEG" + lost}, {"\ufffdPNG", "a PNG" + lost},
		{"????\x00\x10JFIF", "a JPEG" + lost}, {"?PNG\r\n", "a PNG" + lost},
		{"\u00ff\u00d8\u00ff", "a JPEG" + twice}, {"\u0089PNG", "a PNG" + twice},
		{"\x89PNG\n", "a PNG" + lines}, {"\x89PNG\r\r", "a PNG" + lines}, {"\x89PNG\r\n\x1a\r", "a PNG" + lines},
		{"b'\\x", "a Python bytes literal; publish the bytes themselves, not str() of them"},
		{"b\"\\x", "a Python bytes literal; publish the bytes themselves, not str() of them"},
	})
}

// envelope knows the wire's envelopes: what begins with LMB1 and is sound does not
// get here.
func envelope(head []byte) string {
	return says(head, []sign{
		{"1BML", "an envelope in the wrong byte order; it begins with LMB1 and the length of the header, big endian"},
		{"lmb1", "an envelope; it begins with LMB1 in capitals"},
		{"LMB1", "an envelope within an envelope, or where none is read; send the frame itself"},
		{"LMB", "an envelope of another version; this one reads LMB1"},
	})
}

func textual(head []byte) string {
	if s := base64Of(head); s != "" {
		return "base64 of " + s + "; decode it and publish the bytes themselves"
	}
	if len(head) > 0 && bytes.IndexByte([]byte(`{["`), head[0]) >= 0 {
		return jsonOf(head)
	}
	const page = "a web page, perhaps an error or a log-in of the camera; fetch the address of its snapshot"
	const part = "a part of a multipart stream (MJPEG); publish each picture alone, " +
		"the bytes between a part's blank line and the next boundary"
	const digits = "hexadecimal digits; publish the bytes themselves"
	const svg = "an SVG; draw it and publish JPEG or PNG"
	if bytes.HasPrefix(head, []byte("--")) && bytes.Contains(bytes.ToLower(head), []byte("content-type:")) {
		return part
	}
	if bytes.HasPrefix(head, []byte("<?xml")) && bytes.Contains(head, []byte("<svg")) {
		return svg
	}
	return says(head, []sign{
		{"data:", "a data URI; decode what follows its comma and publish the bytes themselves"},
		{"HTTP/", "an HTTP response; publish its body alone"},
		{"Content-", part}, {"content-", part},
		{"<svg", svg},
		{"<!DOCTYPE html", page}, {"<!doctype html", page}, {"<html", page}, {"<HTML", page},
		{"<?xml", "XML; publish the bytes of a picture"},
		{"ffd8ff", digits}, {"FFD8FF", digits}, {"89504e47", digits}, {"89504E47", digits},
	})
}

// jsonOf tells JSON with a picture in it from other JSON.
func jsonOf(head []byte) string {
	for rest := head; ; {
		at := bytes.IndexByte(rest, '"')
		if at < 0 {
			return "JSON; publish the bytes of a picture, what is said of it goes into the envelope's header"
		}
		rest = rest[at+1:]
		if base64Of(rest) != "" || bytes.HasPrefix(rest, []byte("data:image/")) {
			return "JSON with a picture in it; decode its base64 and publish those bytes, " +
				"what else is said goes into the envelope's header"
		}
	}
}

// base64Of names the picture whose first bytes, in base64, text begins with.
func base64Of(text []byte) string {
	return says(text, []sign{{"/9j/", "a JPEG"}, {"\\/9j\\/", "a JPEG"}, {"iVBORw0KGgo", "a PNG"}, {"UklGR", "a WebP"},
		{"R0lGOD", "a GIF"}, {"SUkqA", "a TIFF"}, {"TU0AK", "a TIFF"}, {"TE1CMQ", "an envelope"}})
}

// container knows files that are not read.
func container(head []byte) string {
	const instead = "; convert it to JPEG, PNG or WebP"
	const unpack = "; publish the picture without it, it is compressed already"
	if len(head) >= 12 && string(head[4:8]) == "ftyp" {
		return brand(string(head[8:12])) + instead
	}
	if len(head) >= 12 && string(head[:4]) == "RIFF" {
		return fmt.Sprintf("a RIFF file of the kind %.4q, perhaps one whose bytes were changed on the way", head[8:12]) +
			instead
	}
	if len(head) >= 18 && string(head[:2]) == "BM" && string(head[6:10]) == "\x00\x00\x00\x00" &&
		string(head[15:18]) == "\x00\x00\x00" {
		return "a BMP" + instead + ", or send its pixels raw with codec bgr"
	}
	return says(head, []sign{
		{"GIF87a", "a GIF" + instead}, {"GIF89a", "a GIF" + instead},
		{"II*\x00", "a TIFF" + instead}, {"MM\x00*", "a TIFF" + instead}, {"II+\x00", "a TIFF" + instead},
		{"MM\x00+", "a TIFF" + instead},
		{"\x00\x00\x00\x0cjP  ", "JPEG 2000" + instead}, {"\xff\x4f\xff\x51", "JPEG 2000" + instead},
		{"\x00\x00\x00\x0cJXL ", "JPEG XL" + instead}, {"\xff\x0a", "JPEG XL" + instead},
		{"\x00\x00\x00\x01", "video (H.264 or H.265); decode it and send each picture, or its pixels raw with codec nv12"},
		{"\x93NUMPY", "a NumPy file; send the array's tobytes() raw, with codec rgb, bgr or gray in an envelope"},
		{"\x1f\x8b", "gzip" + unpack}, {"(\xb5/\xfd", "Zstandard" + unpack}, {"PK\x03\x04", "a zip archive" + unpack},
		{"%PDF", "a PDF" + instead},
	})
}

// brand names a file of ISO's base media format.
func brand(kind string) string {
	switch kind {
	case "avif", "avis":
		return "AVIF"
	case "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1":
		return "HEIC"
	}
	return fmt.Sprintf("a video or picture of the kind %.4q", kind)
}

// late knows a picture that begins some bytes in.
func late(head []byte) string {
	for _, c := range codecs() {
		for at := 1; at < len(head); at++ {
			if c.begins(head[at:]) {
				return fmt.Sprintf("a %s after %d other bytes; publish it from its first byte on", c.name, at)
			}
		}
	}
	return ""
}
