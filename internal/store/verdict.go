package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// Judged is an image that was judged again.
type Judged struct {
	Digest string
	// Pipeline is the image's, as it was read from the store: whose word was judged.
	Pipeline string
	Verdict  event.Verdict
	// Matched: its findings were looked up again, in Bundle, and come to Standing.
	Matched  bool
	Standing Standing
	Bundle   *report.Intelligence // nil: there was none
	// Excluded are findings that do not count in this image, though they do in
	// others with the same package; Findings are those that count, which need be
	// given only beside them.
	Excluded, Findings []event.Finding
	// Inventory is the one that was judged, nil when a whole report was: it spares
	// the store from asking what it knows.
	Inventory *Inventory
}

// Judge keeps a newer verdict for an image as it was read from the store; see
// KeepJudged.
func (s *Store) Judge(ctx context.Context, img Image, v event.Verdict) ([]Incident, error) {
	return s.KeepJudged(ctx, []Judged{{Digest: img.Digest, Pipeline: img.Pipeline, Verdict: v}})
}

// KeepJudged keeps newer verdicts of images, in one transaction; what is as it
// was is not written. A verdict that is not the one before, by what it allows
// and which rules are violated, is an event of kind image too; one that refuses
// what was allowed and runs is an incident on each host where it runs, but for an
// image that only a pipeline spoke of. It returns the new incidents. Images that
// are not known are left out, and so are inventories of which a newer report came
// meanwhile, and verdicts on a pipeline's word about an image that was read since,
// or the reverse: whoever put the newer report judges it.
func (s *Store) KeepJudged(ctx context.Context, all []Judged) (incidents []Incident, err error) {
	work := slices.DeleteFunc(slices.Clone(all), func(j Judged) bool { return j.isKnown() })
	if len(work) == 0 {
		return nil, nil
	}
	err = s.tx(ctx, "keep verdicts", func(tx *sql.Tx) error {
		incidents, err = s.keepJudged(ctx, tx, work)
		return err
	})
	return incidents, err
}

func (s *Store) keepJudged(ctx context.Context, tx *sql.Tx, work []Judged) ([]Incident, error) {
	k, err := newKeeper(ctx, tx, nanos(s.now()))
	if err != nil {
		return nil, err
	}
	for i := range work {
		if err := k.keep(ctx, &work[i]); err != nil {
			return nil, fmt.Errorf("verdict of %s: %w", work[i].Digest, err)
		}
	}
	return k.incidents, nil
}

// isKnown says whether everything is as the inventory says it is already.
func (j *Judged) isKnown() bool {
	i := j.Inventory
	if i == nil || len(j.Excluded) > 0 || i.Spares || j.Matched && (j.Standing != i.Known || j.Bundle == nil || j.Bundle.Version != i.Bundle) {
		return false
	}
	body, err := json.Marshal(j.Verdict)
	return err == nil && bytes.Equal(body, i.verdict)
}

// keeper writes verdicts within one transaction.
type keeper struct {
	tx                *sql.Tx
	now               int64
	find, say, matter *sql.Stmt
	bundles           map[string]int64
	incidents         []Incident
}

func newKeeper(ctx context.Context, tx *sql.Tx, now int64) (*keeper, error) {
	k := &keeper{tx: tx, now: now, bundles: map[string]int64{}}
	for _, p := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&k.find, "SELECT told, refs, platform, scanned, origin FROM images WHERE digest = $1"},
		{&k.say, "UPDATE images SET verdict = $1, refused = $2, judged = $3, told = $4 WHERE digest = $5 AND origin = $6"},
		{&k.matter, `UPDATE images SET verdict = $1, refused = $2, judged = $3, told = $4, worst = $6, findings = $7, fixable = $8, gaps = $9, bundle_id = $10
			WHERE digest = $5 AND told = $11 AND scanned = $12 AND origin = $13`},
	} {
		stmt, err := tx.PrepareContext(ctx, p.query) //nolint:sqlclosecheck // closed with the transaction
		if err != nil {
			return nil, err
		}
		*p.to = stmt
	}
	return k, nil
}

// before is what is known of the image.
type before struct {
	told, refs, origin string
	scanned            int64
	image              event.Image
}

func (k *keeper) before(ctx context.Context, digest string) (b before, err error) {
	b.image.Digest = digest
	err = k.find.QueryRowContext(ctx, digest).Scan(&b.told, &b.refs, &b.image.Platform, &b.scanned, &b.origin)
	return b, err
}

func (k *keeper) keep(ctx context.Context, j *Judged) error {
	body, err := json.Marshal(j.Verdict)
	if err != nil {
		return err
	}
	gist := gistOf(j.Verdict)
	var b before
	if i := j.Inventory; i != nil {
		b = before{i.told, string(i.refs), i.Pipeline, i.scanned, i.image}
	} else if b, err = k.before(ctx, j.Digest); errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	if (b.origin == "") != (j.Pipeline == "") {
		return nil
	}
	done, err := k.write(ctx, j, body, gist, &b)
	if err == nil && !done { // somebody else judged it meanwhile, or read it anew
		var now before
		if now, err = k.before(ctx, j.Digest); err == nil && now.scanned == b.scanned && now.origin == b.origin {
			b = now
			done, err = k.write(ctx, j, body, gist, &b)
		}
	}
	if err != nil || !done {
		return err
	}
	if err := k.spare(ctx, j); err != nil {
		return err
	}
	return k.tell(ctx, j, gist, &b)
}

// write says whether the image was as b says.
func (k *keeper) write(ctx context.Context, j *Judged, body []byte, gist string, b *before) (bool, error) {
	var res sql.Result
	var err error
	if j.Matched {
		var bundle int64
		if bundle, err = k.bundle(ctx, j.Bundle); err == nil {
			res, err = k.matter.ExecContext(ctx, body, !j.Verdict.Allowed, k.now, gist, j.Digest,
				j.Standing.Worst, j.Standing.Findings, j.Standing.Fixable, j.Standing.Gaps, bundle, b.told, b.scanned, b.origin)
		}
	} else {
		res, err = k.say.ExecContext(ctx, body, !j.Verdict.Allowed, k.now, gist, j.Digest, b.origin)
	}
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

func (k *keeper) bundle(ctx context.Context, used *report.Intelligence) (int64, error) {
	if used == nil {
		return 0, nil
	}
	if id, ok := k.bundles[used.Version]; ok {
		return id, nil
	}
	id, err := bundleNumber(ctx, k.tx, used)
	k.bundles[used.Version] = id
	return id, err
}

// tell makes an event of a verdict that is another one, and incidents of one
// that turned.
func (k *keeper) tell(ctx context.Context, j *Judged, gist string, b *before) error {
	if b.told == gist {
		return nil
	}
	if err := json.Unmarshal([]byte(b.refs), &b.image.References); err != nil {
		return err
	}
	change := event.ImageVerdict{Image: b.image, WasAllowed: strings.HasPrefix(b.told, gistAllowed), Verdict: j.Verdict}
	if b.told != "" {
		if err := putVerdictEvent(ctx, k.tx, k.now, change); err != nil {
			return err
		}
	}
	if !change.WasAllowed || j.Verdict.Allowed || b.origin != "" {
		return nil
	}
	turned, err := turned(ctx, k.tx, k.now, change)
	k.incidents = append(k.incidents, turned...)
	return err
}

// spare notes what does not count in this image, though the package has it.
func (k *keeper) spare(ctx context.Context, j *Judged) error {
	if !j.Matched || j.Inventory != nil && len(j.Excluded) == 0 && !j.Inventory.Spares {
		return nil
	}
	var image int64
	if err := k.tx.QueryRowContext(ctx, "SELECT number FROM image_numbers WHERE digest = $1", j.Digest).Scan(&image); err != nil {
		return err
	}
	return putSpared(ctx, k.tx, image, j.Findings, j.Excluded)
}

// The beginnings of a gist.
const (
	gistAllowed = "allowed"
	gistRefused = "refused"
)

// gistOf is what makes a verdict another one: what it allows, and which rules
// are violated.
func gistOf(v event.Verdict) string {
	rules := make([]string, 0, len(v.Violations)+1)
	for _, x := range v.Violations {
		rules = append(rules, fmt.Sprintf(" %q %q %v", x.Policy, x.Rule, x.Audit))
	}
	slices.Sort(rules)
	word := gistRefused
	if v.Allowed {
		word = gistAllowed
	}
	return word + strings.Join(slices.Compact(rules), "")
}

// serverAgent stands as agent of the events that the server itself tells.
const serverAgent = "server"

func putVerdictEvent(ctx context.Context, tx *sql.Tx, now int64, change event.ImageVerdict) error {
	ev := event.Event{Key: verdictKey(change.Image.Digest) + rand.Text(), Kind: event.KindImage, Time: fromNanos(now), Image: &change}
	body, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO events (agent, key, time, received, kind, container, body) VALUES ($1, $2, $3, $3, $4, '', $5)",
		serverAgent, ev.Key, now, ev.Kind, body)
	return err
}
