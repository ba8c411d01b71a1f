package main

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/webrtc/v4/pkg/media"
)

func testVideo(t *testing.T) *video {
	t.Helper()
	v, err := readVideo(bytes.NewReader(testPicture))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPictureHasAKeyFrameEverySecondAndIsSmall(t *testing.T) {
	v := testVideo(t)
	var total, sinceKey time.Duration
	for i, f := range v.frames {
		if isKeyFrame(f.data) {
			sinceKey = 0
		}
		total += f.lasts
		if sinceKey += f.lasts; sinceKey > time.Second+time.Millisecond {
			t.Fatalf("frame %d: %v since the last key frame", i, sinceKey)
		}
	}
	if total.Round(time.Millisecond) != 8*time.Second {
		t.Errorf("lasts %v, want 8 s", total)
	}
	if len(testPicture) > 400<<10 {
		t.Errorf("%d bytes, want at most 400 KiB", len(testPicture))
	}
}

type sampleFunc func(media.Sample) error

func (f sampleFunc) WriteSample(s media.Sample) error { return f(s) }

func TestVideoPlaysAtItsOwnPaceAndBeginsAgain(t *testing.T) {
	v := testVideo(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		began := time.Now()
		v.play(ctx, sampleFunc(func(s media.Sample) error {
			if !bytes.Equal(s.Data, v.frames[len(at)%len(v.frames)].data) {
				t.Errorf("frame %d is not the next one", len(at))
			}
			if at = append(at, time.Since(began)); len(at) == len(v.frames)+16 {
				cancel()
			}
			return errors.New("a viewer is gone") // does not stop the others' picture
		}))
		if last := at[len(at)-1].Round(10 * time.Millisecond); last != 9*time.Second {
			t.Errorf("frame %d came after %v, want 9 s", len(at), last)
		}
	})
}

func TestWhatIsNoVP8FileIsRefused(t *testing.T) {
	other := bytes.Clone(testPicture)
	copy(other[8:], "AV01")
	truncated := testPicture[:len(testPicture)-10]
	noKey := append(bytes.Clone(testPicture[:32]), testPicture[32+12+0x4a44:]...)
	for name, file := range map[string][]byte{
		"empty": nil, "text": []byte("hello, I am no film at all, honestly"), "AV1": other,
		"truncated": truncated, "header only": testPicture[:32], "no key frame first": noKey,
	} {
		if _, err := readVideo(bytes.NewReader(file)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
