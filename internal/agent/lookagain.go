package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
)

const (
	// lookEvery is how often known images are gone through: a malware engine or a
	// registry that was away may answer again.
	lookEvery = 5 * time.Minute
	// tryAgain is how long a scan that could not look for everything stands.
	tryAgain = 5 * time.Minute
	maxTried = 4096 // attempts that are remembered
)

// attempt is a scan whose report lacked something.
type attempt struct {
	at    time.Time
	lacks string
}

// due says whether a new scan is worth its time: policy asks about what the
// report does not tell, and that was not just tried.
func (im *images) due(r *report.Report) bool {
	lacks := strings.Join(im.scanner.Lacks(r.Looked), " ")
	if lacks == "" {
		return false
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	last := im.tried[r.Image.Digest]
	return last.lacks != lacks || time.Since(last.at) >= tryAgain
}

// note remembers what an attempt to scan could not look for.
func (im *images) note(digest string, looked []string) {
	lacks := strings.Join(im.scanner.Lacks(looked), " ")
	im.mu.Lock()
	defer im.mu.Unlock()
	if len(im.tried) >= maxTried {
		clear(im.tried)
	}
	delete(im.tried, digest)
	if lacks != "" {
		im.tried[digest] = attempt{time.Now(), lacks}
	}
}

// lookAgain scans known images, one after the other, of which policy asks what
// their report does not tell; or all of them, for what new intelligence knows of
// programs. What layers hold is kept, so only what was never looked for is read.
// Images that no engine has any more stay as they are. It returns how many were
// scanned.
func (im *images) lookAgain(ctx context.Context, sockets []string, all bool) (count int, err error) {
	if !all && len(im.scanner.Lacks(nil)) == 0 {
		return 0, nil
	}
	entries, err := os.ReadDir(filepath.Join(im.dir, api.DirReports))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	var failed []error
	for _, entry := range entries {
		sum, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || ctx.Err() != nil {
			continue
		}
		r, err := im.stored("sha256:" + sum)
		if err != nil || r == nil || !all && !im.due(r) {
			continue // one that cannot be read is made anew when it is asked for
		}
		switch scanned, err := im.scanAnywhere(ctx, sockets, r); {
		case scanned:
			count++
		case err != nil && ctx.Err() == nil:
			failed = append(failed, err)
		}
	}
	if len(failed) > 1 {
		return count, fmt.Errorf("%d known images were not looked at again: %w", len(failed), failed[0])
	}
	return count, errors.Join(failed...)
}

// scanAnywhere scans an image in the first engine that has it.
func (im *images) scanAnywhere(ctx context.Context, sockets []string, known *report.Report) (scanned bool, err error) {
	var failed []error
	for _, socket := range sockets {
		_, err := im.scan(ctx, socket, known.Image.Digest, known.Image.Name())
		if err == nil {
			return true, nil
		}
		if !image.NotFound(err) {
			failed = append(failed, err)
		}
	}
	im.note(known.Image.Digest, known.Looked)
	return false, errors.Join(failed...)
}

// looking tells the goroutine that looks again that there is something to do.
type looking struct {
	more chan struct{} // has a value when there is
	all  atomic.Bool   // at every image, not only where something lacks
}

func (l *looking) soon(all bool) {
	if all {
		l.all.Store(true)
	}
	select {
	case l.more <- struct{}{}:
	default: // it is told already
	}
}

// keepLooking looks again at known images, in the background, when policy asks
// about more, when intelligence knows more, and now and then, until ctx ends.
func (a *Agent) keepLooking(ctx context.Context) error {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		count, err := a.images.lookAgain(ctx, a.opts.Sockets, a.looking.all.Swap(false))
		a.problem("known images", err)
		if count > 0 {
			a.opts.Log.Info("known images were looked at again", "images", count)
			a.judgeAgain(ctx)
			a.heartbeatNow()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.looking.more:
		case <-tick.C:
			_ = a.scanner.askClamd(ctx, nil) // whether it answers is told as a problem
		}
	}
}
