package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// MaxKey is the longest key of a record, in bytes.
const MaxKey = 512

// maxRejected bounds what is kept of a record that could not be read.
const maxRejected = 64 << 10

// Ingested is what became of one batch.
type Ingested struct {
	// Committed is the batch's last sequence number: everything up to it is
	// durable.
	Committed uint64
	// Incidents are the new ones, in the order of their ids; what was known
	// already by its key is not among them.
	Incidents []Incident
	Images    []string // digests whose report is new
	Events    int      // new events
	Known     int      // records whose key was stored before
	Rejected  int      // records that could not be read, kept in the rejects
}

// Ingest stores a batch in one transaction, exactly once by agent and key: a
// batch may come any number of times, whole or in part. Records that cannot be
// read are kept as rejects, so that no batch comes back for ever.
// On an error nothing of the batch is stored and it must not be acknowledged;
// one that wraps ErrMalformed comes again with every try.
func (s *Store) Ingest(ctx context.Context, b api.Batch) (Ingested, error) {
	if b.Version != api.Version {
		return Ingested{}, fmt.Errorf("%w: batch of agent %q has version %d, this server knows %d: upgrade the server first", ErrMalformed, b.Agent, b.Version, api.Version)
	}
	if b.Agent == "" {
		return Ingested{}, fmt.Errorf("%w: batch names no agent", ErrMalformed)
	}
	var done Ingested
	err := s.tx(ctx, "ingest", func(tx *sql.Tx) error {
		in := ingest{tx: tx, agent: b.Agent, epoch: b.Epoch, now: nanos(s.now()), packer: s.packer, done: Ingested{}}
		for _, r := range b.Records {
			if err := in.record(ctx, r); err != nil {
				return err
			}
		}
		done = in.done
		return nil
	})
	if err != nil {
		return Ingested{}, err
	}
	return done, nil
}

// ingest is the work on one batch inside its transaction.
type ingest struct {
	tx       *sql.Tx
	agent    string
	epoch    string
	now      int64
	putEvent *sql.Stmt
	packer   *zstd.Encoder // of reports
	index    *indexer      // nil before the first report
	done     Ingested
}

// errReject marks a record that cannot be stored as what it claims to be.
type errReject struct{ reason string }

func (e errReject) Error() string { return e.reason }

func reject(format string, args ...any) error { return errReject{fmt.Sprintf(format, args...)} }

func (in *ingest) record(ctx context.Context, r api.Record) error {
	err := in.store(ctx, r)
	var bad errReject
	if errors.As(err, &bad) {
		err = in.reject(ctx, r, bad.reason)
	}
	in.done.Committed = max(in.done.Committed, r.Sequence)
	return err
}

func (in *ingest) store(ctx context.Context, r api.Record) error {
	if r.Key == "" || len(r.Key) > MaxKey {
		return reject("key has %d bytes, not 1 to %d", len(r.Key), MaxKey)
	}
	switch r.Kind {
	case api.RecordIncident:
		return in.incident(ctx, r)
	case api.RecordEvent:
		return in.event(ctx, r)
	case api.RecordReport:
		return in.report(ctx, r)
	}
	return reject("kind %q is unknown", r.Kind)
}

func (in *ingest) incident(ctx context.Context, r api.Record) error {
	var inc event.Incident
	if err := json.Unmarshal(r.Body, &inc); err != nil {
		return reject("incident: %v", err)
	}
	inc.Key, inc.Agent = r.Key, in.agent // who sent it is not for the sender to say
	if inc.Time.IsZero() {
		inc.Time = r.Time
	}
	body, err := json.Marshal(inc)
	if err != nil {
		return reject("incident: %v", err)
	}
	var c event.Container
	if inc.Container != nil {
		c = *inc.Container
	}
	story, rises, err := in.story(ctx, inc.Story)
	if err != nil {
		return err
	}
	var id uint64
	err = in.tx.QueryRowContext(ctx, `
		INSERT INTO incidents (agent, key, time, received, host, severity, outcome, control, policy, detection, container, name, image, sentence, story, rises, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (key, agent) DO NOTHING RETURNING id`,
		in.agent, r.Key, nanos(inc.Time), in.now, inc.Host, inc.Severity.Rank(), inc.Decision.Outcome, inc.Decision.Control,
		inc.Decision.Policy, inc.Detection, c.ID, c.Name, c.Image.Digest, inc.Sentence, story, rises, body).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		in.done.Known++
		return nil
	}
	if err == nil {
		err = errors.Join(in.tell(ctx, id, story, inc.Story), in.countRule(ctx, inc.Detection, inc.Decision.Control))
	}
	if err == nil {
		in.done.Incidents = append(in.done.Incidents, Incident{ID: id, Received: fromNanos(in.now), Incident: inc})
	}
	return err
}

func (in *ingest) event(ctx context.Context, r api.Record) error {
	var ev event.Event // read whole: what is stored can be shown
	if err := json.Unmarshal(r.Body, &ev); err != nil {
		return reject("event: %v", err)
	}
	container := ""
	if ev.Container != nil {
		container = ev.Container.ID
	}
	if in.putEvent == nil { // compiled once a batch: batches are mostly events
		stmt, err := in.tx.PrepareContext(ctx, `
			INSERT INTO events (agent, key, time, received, kind, container, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (key, agent) DO NOTHING`)
		if err != nil {
			return err
		}
		in.putEvent = stmt // closed with the transaction
	}
	res, err := in.putEvent.ExecContext(ctx, in.agent, r.Key, nanos(ev.Time), in.now, ev.Kind, container, []byte(r.Body))
	if err != nil {
		return err
	}
	return in.count(res, &in.done.Events)
}

// count adds a new row to n, or to the known ones.
func (in *ingest) count(res sql.Result, n *int) error {
	rows, err := res.RowsAffected()
	if rows == 0 {
		n = &in.done.Known
	}
	*n++
	return err
}

func (in *ingest) report(ctx context.Context, r api.Record) error {
	var rep report.Report
	if err := json.Unmarshal(r.Body, &rep); err != nil {
		return reject("report: %v", err)
	}
	if !validDigest(rep.Image.Digest) {
		return reject("report: image digest %q is not sha256: and 64 hex digits", rep.Image.Digest)
	}
	if len(r.Body) > MaxReport {
		return reject("report has %d bytes, more than %d", len(r.Body), MaxReport)
	}
	isNew, err := isNewReport(ctx, in.tx, in.agent, in.epoch, r.Sequence)
	if err != nil {
		return err
	}
	if !isNew {
		in.done.Known++
		return nil
	}
	if in.index == nil {
		if in.index, err = newIndexer(ctx, in.tx); err != nil {
			return err
		}
	}
	in.done.Images = append(in.done.Images, rep.Image.Digest)
	return putImage(ctx, in.index, rep, in.packer.EncodeAll(r.Body, nil), "")
}

func (in *ingest) reject(ctx context.Context, r api.Record, reason string) error {
	key := r.Key
	if key == "" || len(key) > MaxKey {
		key = fmt.Sprintf("seq-%d", r.Sequence)
	}
	body := r.Body
	if len(body) > maxRejected {
		body = body[:maxRejected]
	}
	in.done.Rejected++
	_, err := in.tx.ExecContext(ctx, `
		INSERT INTO rejects (agent, key, received, reason, body) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (key, agent) DO NOTHING`, in.agent, key, in.now, reason, []byte(body))
	return err
}

// Rejects counts the records of an agent that could not be read and are kept
// (see PruneRejects), and says why the last one could not.
func (s *Store) Rejects(ctx context.Context, agent string) (n int, reason string, err error) {
	row := s.read.QueryRowContext(ctx, `
		SELECT COUNT(*), COALESCE((SELECT reason FROM rejects WHERE agent = $1 ORDER BY id DESC LIMIT 1), '')
		FROM rejects WHERE agent = $1`, agent)
	err = s.wrap("count rejects", row.Scan(&n, &reason))
	return n, reason, err
}
