package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

const scansPath = "/api/v1/scans"

// scansAtOnce bounds the memory that reports of CIs take while they are read:
// each may be store.MaxReport long.
const scansAtOnce = 4

// scanAnswer is what a CI hears about its scan.
type scanAnswer struct {
	Verdict event.Verdict `json:"verdict"`
	// Image is where the report stands; empty when it was not kept: it names no
	// image by its config digest, or a host or the server read that image
	// themselves.
	Image string `json:"image,omitempty"`
}

// scanned keeps a report that a CI sends, and answers the verdict of the
// policies in force.
func (s *Server) scanned(w http.ResponseWriter, r *http.Request) {
	select {
	case s.scans <- struct{}{}:
		defer func() { <-s.scans }()
	default:
		w.Header().Set("Retry-After", "5")
		problem(w, r, http.StatusServiceUnavailable, "other scans are being judged; try again in a few seconds")
		return
	}
	rep, err := readReport(r.Body)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		problem(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the report is longer than %d bytes", long.Limit))
		return
	case err != nil:
		problem(w, r, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer, err := s.judgeScan(r.Context(), rep)
	if err != nil {
		s.o.Log.Error("scan not judged", "request", requestID(r), "error", err)
		problem(w, r, http.StatusServiceUnavailable, "the scan could not be judged; the server's log says why")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // a reader that went away is no error
}

func readReport(body io.Reader) (rep report.Report, err error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return rep, err
	}
	if err := json.Unmarshal(text, &rep); err != nil {
		return rep, fmt.Errorf("this is no report of breakwater scan: %w", err)
	}
	if rep.Schema != report.SchemaVersion {
		return rep, fmt.Errorf("the report has schema %d, this server reads %d", rep.Schema, report.SchemaVersion)
	}
	return rep, nil
}

func (s *Server) judgeScan(ctx context.Context, rep report.Report) (answer scanAnswer, err error) {
	set, err := s.policySet(ctx)
	if err != nil {
		return answer, err
	}
	said, err := s.statements(ctx)
	if err != nil {
		return answer, err
	}
	answer.Verdict = set.Image(s.o.Now(), said.Facts(&rep))
	if rep.Image.Digest == "" {
		return answer, nil
	}
	rep.Verdict = &answer.Verdict
	kept, err := s.store.PutScan(ctx, rep, actorOf(ctx))
	if err == nil && kept {
		answer.Image = rep.Image.Digest
	}
	return answer, err
}

// maxTokenLife is how long a token of each scope may hold.
func maxTokenLife(r auth.Role) time.Duration {
	if r == auth.CI {
		return 24 * time.Hour
	}
	return 90 * 24 * time.Hour
}

// tokenBody asks for an API token.
type tokenBody struct {
	Name  string `json:"name" doc:"a token of the same name is replaced" minLength:"1" maxLength:"64"`
	Scope string `json:"scope" enum:"ci,viewer" doc:"ci: have scans judged, nothing else; viewer: read everything"`
	Life  string `json:"life" doc:"how long it holds: 1h; ci at most 24h, viewer at most 2160h" default:"1h"`
	Token string `json:"token,omitempty" readOnly:"true"`
	// Fingerprint is the server's, to pin.
	Fingerprint string `json:"fingerprint,omitempty" readOnly:"true"`
}

func (s *Server) apiToken(ctx context.Context, in *struct{ Body tokenBody }) (*answer[tokenBody], error) {
	b := in.Body
	role := auth.Role(b.Scope)
	life, err := time.ParseDuration(b.Life)
	if most := maxTokenLife(role); err != nil || life <= 0 || life > most {
		return nil, huma.Error400BadRequest(fmt.Sprintf("life %s: use a length of time of at most %s", b.Life, most))
	}
	if strings.ContainsFunc(b.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, huma.Error400BadRequest("name: use visible ASCII characters")
	}
	b.Name = b.Scope + "/" + b.Name // never that of this host's own command line
	if b.Token, err = s.auth.NewToken(ctx, b.Name, role, life, actorOf(ctx)); err != nil {
		return nil, apiError(err)
	}
	b.Fingerprint = s.Fingerprint()
	return single(b, nil)
}
