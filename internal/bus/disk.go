package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// A full disk is the one fault that JetStream does not get over: a stream that
// could not write refuses everything from then on. The bus therefore stops
// taking batches while there is still room, and where something else filled the
// disk, it starts JetStream anew once a batch was refused and room is back.

const (
	reserve       = 32 << 20 // bytes of the disk left free, or an eighth of a small one
	publishWithin = 4 * time.Second
	reviveEvery   = 2 * time.Second
)

// room says whether the disk can take a batch.
func (s *Server) room(size int) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("disk of %s: %w", s.dir, err)
	}
	free := int64(st.Bavail) * st.Bsize
	if least := min(reserve, int64(st.Blocks)*st.Bsize/8); free < least+int64(size) {
		return fmt.Errorf("the disk of %s is full (%d bytes left, %d are kept free): make room there", s.dir, free, least)
	}
	return nil
}

// publish puts a batch into the stream, on stable storage.
func (s *Server) publish(ctx context.Context, agent string, data []byte) error {
	if err := s.room(len(data)); err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	_, err := s.stream.Publish(inner, streamSubject+agent, data)
	var refused *jetstream.APIError
	if err == nil || errors.As(err, &refused) && refused.ErrorCode == errFull {
		return err
	}
	// Only takeIn's goroutine comes here.
	if time.Since(s.revived) >= reviveEvery {
		s.revived = time.Now()
		s.notice(fmt.Sprintf("the stream takes nothing, starting it anew: %v", err))
		err = errors.Join(err, s.revive(ctx))
	}
	return err
}

// errFull is JetStream's code for a stream at its own bound: no fault.
const errFull = 10077

// revive starts JetStream anew on the same folder; what was acknowledged is on
// disk and comes back.
func (s *Server) revive(ctx context.Context) error {
	if s.nats.JetStreamEnabled() {
		if err := s.nats.ShutdownJetStream(); err != nil {
			return err
		}
	}
	err := s.nats.EnableJetStream(&server.JetStreamConfig{StoreDir: s.dir, MaxMemory: maxControl, MaxStore: s.maxBytes + maxControl,
		SyncAlways: true, SyncInterval: time.Minute, Strict: true})
	if err != nil {
		return err
	}
	return s.openStream(ctx)
}

func (s *Server) openStream(ctx context.Context) error {
	_, err := s.stream.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{streamSubject + "*"}, Storage: jetstream.FileStorage,
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxBytes: s.maxBytes, MaxMsgSize: maxPayload, Description: "batches that the store has not committed yet",
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", streamName, err)
	}
	return nil
}
