package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
)

// video is a short film, decoded as far as its container: played in a loop it
// stands in for a camera's encoder.
type video struct {
	frames []frame
}

type frame struct {
	data  []byte
	lasts time.Duration
}

// readVideo reads an IVF file with VP8 in it. It must begin with a key frame.
func readVideo(r io.Reader) (*video, error) {
	reader, header, err := ivfreader.NewWith(r)
	if err != nil {
		return nil, fmt.Errorf("not an IVF file: %w", err)
	}
	if codec := string(bytes.TrimRight([]byte(header.FourCC), "\x00")); codec != "VP80" {
		return nil, fmt.Errorf("its codec is %q, not VP80", codec)
	}
	// A second is den/num ticks. ivfreader hands out ticks*den/num, so in its
	// timestamps a second is the square of that.
	perSecond := float64(header.TimebaseDenominator) / float64(header.TimebaseNumerator)
	perSecond *= perSecond

	v := &video{}
	lasts, last := time.Second/15, uint64(0)
	for {
		data, head, err := reader.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", len(v.frames), err)
		}
		if n := len(v.frames); n > 0 && head.Timestamp > last {
			lasts = time.Duration(float64(head.Timestamp-last) / perSecond * float64(time.Second))
			v.frames[n-1].lasts = lasts
		}
		last = head.Timestamp
		v.frames = append(v.frames, frame{data: data, lasts: lasts})
	}
	if len(v.frames) == 0 || !isKeyFrame(v.frames[0].data) {
		return nil, errors.New("it does not begin with a key frame")
	}
	v.frames[len(v.frames)-1].lasts = lasts
	return v, nil
}

// isKeyFrame says whether a VP8 frame can be shown without those before it
// (RFC 6386, section 9.1: the lowest bit of the first byte is 0).
func isKeyFrame(data []byte) bool { return len(data) > 0 && data[0]&1 == 0 }

// sampleWriter is a webrtc.TrackLocalStaticSample.
type sampleWriter interface {
	WriteSample(media.Sample) error
}

// play writes frame after frame at the film's own pace, over and over, until
// ctx is done. All viewers look at the same track, as at the same encoder. A
// file cannot make a key frame when a viewer asks for one (PLI), so a new
// viewer waits for the next in the file: that is why it has one each second.
func (v *video) play(ctx context.Context, to sampleWriter) {
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i = (i + 1) % len(v.frames) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		frame := v.frames[i]
		// An error means that one viewer has just gone; the others have it.
		_ = to.WriteSample(media.Sample{Data: frame.data, Duration: frame.lasts})

		due = due.Add(frame.lasts)
		if late := time.Since(due); late > time.Second { // the machine slept
			due = time.Now()
		}
		timer.Reset(time.Until(due))
	}
}
