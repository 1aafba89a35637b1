package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/breakwater-sec/breakwater/api"
)

const (
	maxBatchRecords = 4096
	maxKey          = 512
)

// encodeBatch writes a batch without touching the bytes of its bodies.
func encodeBatch(b api.Batch) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(b); err != nil {
		return nil, err
	}
	if buf.Len() > maxPayload {
		return nil, fmt.Errorf("batch of %d bytes, the most is %d", buf.Len(), maxPayload)
	}
	return buf.Bytes(), nil
}

// decodeBatch reads what an agent sent on its subject. The agent is who the
// subject says, whatever the batch claims.
func decodeBatch(agent string, data []byte) (api.Batch, error) {
	var b api.Batch
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("malformed batch: %w", err)
	}
	switch {
	case b.Version != api.Version:
		return b, fmt.Errorf("batch of message version %d, this server knows %d: upgrade the older side", b.Version, api.Version)
	case b.Agent != agent:
		return b, fmt.Errorf("batch claims to be of agent %q", b.Agent)
	case len(b.Epoch) == 0 || len(b.Epoch) > 64:
		return b, errors.New("malformed batch: epoch is missing or too long")
	case len(b.Records) == 0 || len(b.Records) > maxBatchRecords:
		return b, fmt.Errorf("malformed batch: %d records, want 1 to %d", len(b.Records), maxBatchRecords)
	}
	after := uint64(0)
	for _, r := range b.Records {
		if err := checkRecord(r, after); err != nil {
			return b, err
		}
		after = r.Sequence
	}
	return b, nil
}

func checkRecord(r api.Record, after uint64) error {
	switch {
	case r.Sequence <= after:
		return fmt.Errorf("malformed batch: record %d follows record %d", r.Sequence, after)
	case r.Key == "" || len(r.Key) > maxKey:
		return fmt.Errorf("malformed batch: record %d has a key of %d bytes, want 1 to %d", r.Sequence, len(r.Key), maxKey)
	case len(r.Body) == 0:
		return fmt.Errorf("malformed batch: record %d has no body", r.Sequence)
	}
	switch r.Kind {
	case api.RecordIncident, api.RecordEvent, api.RecordReport:
		return nil
	}
	return fmt.Errorf("malformed batch: record %d is of unknown kind %q", r.Sequence, r.Kind)
}
