package scan_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// engine answers as a Docker engine whose export is written by export.
func engine(t *testing.T, digest string, export func(http.ResponseWriter)) (socket string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/images/get"):
			export(w)
		case strings.HasSuffix(r.URL.Path, "/json"):
			fmt.Fprintf(w, `{"Id":%q,"RepoTags":["app:1"]}`, digest)
		}
	}))
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return "unix://" + path
}

func TestEngineExport(t *testing.T) {
	good := sample(t)
	data := good.Archive(t, imagetest.Old)
	digest := "sha256:" + imagetest.Digest(good.ConfigJSON(t))
	whole := func(w http.ResponseWriter) { _, _ = w.Write(data) }

	rep, err := scan.Image(t.Context(), scan.Options{Target: "app:1", Engine: engine(t, digest, whole)})
	if err != nil || rep.Integrity != report.FromEngine || rep.Image.Digest != digest {
		t.Errorf("good: %v", err)
	}
	_, err = scan.Image(t.Context(), scan.Options{Target: "app:1", Engine: engine(t, "sha256:"+strings.Repeat("0", 64), whole)})
	if err == nil || !strings.Contains(err.Error(), "exported the content "+digest+" instead of") {
		t.Errorf("another image: %v", err)
	}
	_, err = scan.Image(t.Context(), scan.Options{Target: "app:1", Engine: engine(t, digest, func(w http.ResponseWriter) {
		_, _ = w.Write(data[:len(data)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // the engine is stopped
	})})
	if err == nil || !strings.Contains(err.Error(), "broke off its export") {
		t.Errorf("stopped meanwhile: %v", err)
	}
	_, err = scan.Image(t.Context(), scan.Options{Target: "app:1", Engine: engine(t, digest, func(w http.ResponseWriter) {
		http.Error(w, `{"message":"disk on fire"}`, http.StatusInternalServerError)
	})})
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("engine's own error: %v", err)
	}
}
