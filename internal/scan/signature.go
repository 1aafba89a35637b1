package scan

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/signature"
)

// addSignatures verifies the image's signatures where one of its references
// says by which digest a registry holds it. A registry that does not answer is
// a gap: the policy then decides about what is not known.
func (o *Options) addSignatures(ctx context.Context, rep *report.Report) {
	if o.Trust == nil {
		return
	}
	asked := false
	for _, reference := range rep.Image.References {
		_, digest, ok := strings.Cut(reference, "@")
		if !ok {
			continue
		}
		asked = true
		at, err := o.Registry.Attached(reference)
		var found []event.Signature
		var gaps []string
		if err == nil {
			found, gaps, err = signature.Verify(ctx, o.Trust, at, digest, time.Now())
		}
		if err != nil {
			rep.Gaps = append(rep.Gaps, fmt.Sprintf("signatures were not verified: %v", err))
			return
		}
		rep.Signatures = append(rep.Signatures, found...)
		rep.Gaps = append(rep.Gaps, gaps...)
	}
	if !asked {
		rep.Gaps = append(rep.Gaps, "signatures were not looked for: no name of the image says by which digest a registry holds it")
		return
	}
	rep.Looked = append(rep.Looked, event.LookedSignatures)
}
