package report

import "github.com/breakwater-sec/breakwater/internal/policy"

// Facts are what a policy's image section judges. Stage, host and container
// are the caller's to add.
func (r *Report) Facts() policy.ImageFacts {
	return policy.ImageFacts{
		Subject:   policy.Subject{Image: r.Image},
		Scanned:   true,
		Integrity: r.Integrity,
		Judged:    r.Intelligence != nil,
		Findings:  r.Findings,
		Packages:  r.Packages,
		Config:    r.Config,
		Gaps:      r.Gaps,
		Malware:   r.Malware, Secrets: r.Secrets, Licenses: r.Licenses, Misconfigurations: r.Misconfigurations,
		Signatures: r.Signatures, Looked: r.Looked,
	}
}
