package gate_test

import (
	"archive/tar"
	"io"
	"net/http"
	"testing"
)

// pendingBuild asks for a build whose context the engine waits for until end is
// called.
func (l *lab) pendingBuild(t *testing.T) (end func()) {
	t.Helper()
	r, w := io.Pipe()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker/v1.41/build?networkmode=none", r)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-tar")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		if said, err := unixClient(l.engine.Socket).Do(q); err == nil {
			_, _ = io.Copy(io.Discard, said.Body) // an engine that was killed says less
			said.Body.Close()
		}
	}()
	return func() {
		archive := tar.NewWriter(w)
		file := "FROM " + l.busybox + "\n"
		if err := archive.WriteHeader(&tar.Header{Name: "Dockerfile", Size: int64(len(file)), Mode: 0o600}); err != nil {
			t.Error(err)
		}
		_, _ = archive.Write([]byte(file)) // an engine that was killed does not read it
		_ = archive.Close()
		w.Close()
		<-done
	}
}

func TestBuildsInFlight(t *testing.T) {
	l := newLab(t, lenientPolicy)
	a := l.startAgent(nil)
	told := func(t *testing.T, want int) {
		t.Helper()
		l.until("the agent is told of the builds", func() bool {
			_, _, builds, _ := a.seen()
			return len(builds) > 0 && builds[len(builds)-1] == want
		})
	}
	t.Run("a worker that is killed in the middle loses none", func(t *testing.T) {
		end := l.pendingBuild(t)
		told(t, 1)
		before := l.status().Worker
		kill(t, before)
		l.until("another worker answers", func() bool { w := l.status().Worker; return w != 0 && w != before })
		other := l.pendingBuild(t)
		told(t, 2)
		other()
		told(t, 1)
		end()
		told(t, 0)
	})
	t.Run("an agent that comes back is told again", func(t *testing.T) {
		end := l.pendingBuild(t)
		told(t, 1)
		a.stop()
		a = l.startAgent(nil)
		told(t, 1)
		end()
		told(t, 0)
	})
	t.Run("an engine that is killed in the middle builds no more", func(t *testing.T) {
		end := l.pendingBuild(t)
		told(t, 1)
		if err := l.engine.Kill(); err != nil {
			t.Fatal(err)
		}
		end()
		if err := l.engine.Start(); err != nil {
			t.Fatal(err)
		}
		l.engine.MustRun(t, "version")
		told(t, 0)
	})
}
