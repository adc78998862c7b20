package pipeline

import (
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/frame"
)

// How decoding is learned: by recursive least squares with exponential
// forgetting (Ljung, System Identification, 1999, section 11.2), so that a fit
// follows the load within some ten frames.
const (
	forget   = 0.85  // weight of what was known, with each frame
	unsure   = 100.0 // variance of a coefficient nothing is known of
	outlier  = 4.0   // times the forecast: what a frame takes beyond was a stall
	trusted  = 10    // frames of a kind, from which on goals count on it
	creeping = 1.002 // by which the least time rises with each frame, lest one lucky frame stand for ever
)

// forecast knows what decoding takes on this device at this moment: of each
// kind of frame so much a pixel and so much a byte. Decoding is all between the
// bytes and the tensor. It may be used by many goroutines.
type forecast struct {
	mu    sync.Mutex
	kinds map[kind]*fit // few: codecs times scales
	last  *fit          // of the frame decoded last; nil before the first
}

// kind is what frames have in common whose decoding is alike.
type kind struct {
	codec string
	scale int
}

// fit is what is known of a kind. Its coefficients are milliseconds for as many
// pixels and bytes as the first frame of the kind had, as a camera's frames
// differ little.
type fit struct {
	pixels, bytes   float64    // of that first frame
	perArea, perLen float64    // ms
	p               [3]float64 // covariance of the two: area, both, length
	seen            int
	least           float64 // ms that a frame took of late when nothing was in its way
}

func newForecast() *forecast { return &forecast{kinds: make(map[kind]*fit)} }

// of is the fit for a frame decoded at 1/scale. It is guarded by mu.
func (f *forecast) of(h frame.Header, scale int) *fit {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := kind{h.Codec, scale}
	if f.kinds[of] == nil {
		f.kinds[of] = &fit{pixels: float64(h.Pixels()), bytes: float64(h.Bytes), p: [3]float64{unsure, 0, unsure}}
	}
	return f.kinds[of]
}

func (f *forecast) learn(with *fit, h frame.Header, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = with
	with.learn(h, float64(took)/1e6)
}

// predict is what a frame will take; 0 if none of its kind was seen.
func (f *forecast) predict(with *fit, h frame.Header) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return with.predict(h)
}

// typical is what a frame like the last one takes while nothing is in its way; 0
// until enough of its kind were seen.
func (f *forecast) typical() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || f.last.seen < trusted {
		return 0
	}
	return time.Duration(f.last.least * 1e6)
}

// features are a frame's size in units of the first one's.
func (f *fit) features(h frame.Header) (area, length float64) {
	return float64(h.Pixels()) / f.pixels, float64(h.Bytes) / f.bytes
}

func (f *fit) predict(h frame.Header) time.Duration {
	area, length := f.features(h)
	return time.Duration(max(0, f.perArea*area+f.perLen*length) * 1e6)
}

func (f *fit) learn(h frame.Header, ms float64) {
	area, length := f.features(h)
	guess := f.perArea*area + f.perLen*length
	if f.least = min(creeping*f.least, ms); f.seen == 0 {
		f.least = ms
	}
	if f.seen++; f.seen > trusted && guess > 0 {
		ms = min(ms, outlier*guess)
	}
	a, b := f.p[0]*area+f.p[1]*length, f.p[1]*area+f.p[2]*length
	d := forget + area*a + length*b
	f.perArea += a / d * (ms - guess)
	f.perLen += b / d * (ms - guess)
	f.p = [3]float64{(f.p[0] - a*a/d) / forget, (f.p[1] - a*b/d) / forget, (f.p[2] - b*b/d) / forget}
	if most := max(f.p[0], f.p[2]); most > unsure { // frames all alike tell nothing of one direction
		for i := range f.p {
			f.p[i] *= unsure / most
		}
	}
}
