package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// TestServerJudges: the report goes to the server with the token of the
// environment, and its verdict is the command's.
func TestServerJudges(t *testing.T) {
	allowed := true
	var got report.Report
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/scans" || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer brief" {
			http.Error(w, `{"detail":"the token is not valid"}`, http.StatusUnauthorized)
			return
		}
		got = report.Report{}
		err := json.NewDecoder(r.Body).Decode(&got)
		verdict := event.Verdict{Allowed: allowed, Policies: []string{"production"}}
		if !allowed {
			verdict.Violations = []event.Violation{{Policy: "production", Rule: "image.no-root", Message: "Run as a non-root user"}}
		}
		if err != nil || json.NewEncoder(w).Encode(map[string]any{"verdict": verdict}) != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	sum := sha256.Sum256(server.Certificate().Raw)
	archive := filepath.Join(writeImages(t), "app.tar")
	try := func(token string, more ...string) (code int, out string) {
		var stdout, stderr strings.Builder
		getenv := func(name string) string {
			return map[string]string{"BREAKWATER_TOKEN": token, "XDG_DATA_HOME": t.TempDir()}[name]
		}
		args := append([]string{"scan", "--data", t.TempDir(), "--no-cache", "--server", server.URL, "--fingerprint", hex.EncodeToString(sum[:]), archive}, more...)
		code = run(t.Context(), args, os.Stdin, &stdout, &stderr, getenv)
		return code, stdout.String() + stderr.String()
	}
	if code, out := try("brief"); code != exitOK || !strings.Contains(out, "allowed by production") {
		t.Errorf("allowed: %d\n%s", code, out)
	}
	if len(got.Packages) != 2 || got.Schema != report.SchemaVersion {
		t.Errorf("the server got %+v", got)
	}
	if code, out := try("brief", "--max-severity", "none"); code != exitRefused || !strings.Contains(out, "refused by max-severity") {
		t.Errorf("both: %d\n%s", code, out)
	}
	allowed = false
	if code, out := try("brief"); code != exitRefused || !strings.Contains(out, "refused by production") {
		t.Errorf("refused: %d\n%s", code, out)
	}
	if code, out := try("other"); code == exitOK || !strings.Contains(out, "the token is not valid") {
		t.Errorf("another token: %d\n%s", code, out)
	}
	if code, out := try(""); code != exitUsage || !strings.Contains(out, "BREAKWATER_TOKEN") {
		t.Errorf("no token: %d\n%s", code, out)
	}
	server.Close()
	if code, out := try("brief"); code != exitUnreachable || !strings.Contains(out, "server unreachable") {
		t.Errorf("no server: %d\n%s", code, out)
	}
}
