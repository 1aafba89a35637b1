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

// addSignatures verifies the image's signatures at the registries that its
// names speak of. A registry that does not answer is a gap: the policy then
// decides about what is not known.
func (o *Options) addSignatures(ctx context.Context, rep *report.Report) {
	if o.Trust == nil {
		return
	}
	if rep.Integrity == "" {
		rep.Gaps = append(rep.Gaps, "signatures were not looked for: the layers were not hashed (--verify)")
		return
	}
	asked := false
	for _, reference := range rep.Image.References {
		_, digest, ok := strings.Cut(reference, "@")
		if !ok {
			continue
		}
		if err := o.signaturesAt(ctx, rep, reference, digest); err != nil {
			rep.Gaps = append(rep.Gaps, fmt.Sprintf("signatures were not verified: %v", err))
			return
		}
		asked = true
	}
	if !asked {
		rep.Gaps = append(rep.Gaps, "signatures were not looked for: no name of the image says by which digest a registry holds it")
		return
	}
	rep.Looked = append(rep.Looked, event.LookedSignatures)
}

// signaturesAt looks at one name. A name comes with the image and may be a lie:
// what is signed under it counts only when the registry shows that the digest
// is of this very image.
func (o *Options) signaturesAt(ctx context.Context, rep *report.Report, reference, digest string) error {
	at, err := o.Registry.Attached(reference)
	if err != nil {
		return err
	}
	switch holds, err := at.Holds(ctx, digest, rep.Image.Digest); {
	case err != nil:
		return err
	case !holds:
		return fmt.Errorf("%s is not this image", reference)
	}
	found, gaps, err := signature.Verify(ctx, o.Trust, at, digest, time.Now())
	if err != nil {
		return err
	}
	rep.Image.Pinned = append(rep.Image.Pinned, digest)
	rep.Signatures = append(rep.Signatures, found...)
	rep.Gaps = append(rep.Gaps, gaps...)
	return nil
}
