package vex

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Write makes an OpenVEX document of an image's findings: what counts is
// affected, with what to do about it, or under investigation where a statement
// said so; what a statement took out stays what that statement said. The same
// input gives the same bytes. author is who answers for it.
func Write(image event.Image, findings, excluded []event.Finding, author, tool string, at time.Time) ([]byte, error) {
	doc := openVEXDocument{Context: "https://openvex.dev/ns/v0.2.0", Author: author, Tooling: tool,
		Timestamp: at.UTC().Format(time.RFC3339), Version: 1, Statements: []openVEXStatement{}}
	name := imagePURL(image)
	for _, list := range [][]event.Finding{findings, excluded} {
		for i := range list {
			doc.Statements = append(doc.Statements, statementOf(&list[i], name))
		}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	doc.ID = "urn:breakwater:vex:" + hex.EncodeToString(sum[:16])
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}

func statementOf(f *event.Finding, image string) openVEXStatement {
	s := openVEXStatement{
		Vulnerability: openVEXVulnerability{Name: f.ID, Aliases: f.Aliases},
		Products:      []openVEXProduct{{ID: image, Subcomponents: []openVEXProduct{{ID: f.Package.PURL}}}},
		Status:        Affected,
	}
	if v := f.VEX; v != nil {
		s.Status, s.Justification, s.Impact = v.Status, v.Justification, v.Impact
	}
	if !justifies(s.Status, s.Justification) {
		if s.Impact == "" {
			s.Impact = s.Justification
		}
		s.Justification = ""
	}
	if s.Status != Affected {
		return s
	}
	s.Action = "No fix is published: " + string(f.State) + "."
	if f.FixedVersion != "" {
		s.Action = fmt.Sprintf("Update %s to %s.", f.Package.Name, f.FixedVersion)
	}
	return s
}

// justifies: OpenVEX has five words, for not_affected only.
func justifies(status, word string) bool {
	return status == NotAffected && slices.Contains([]string{"component_not_present", "vulnerable_code_not_present",
		"vulnerable_code_not_in_execute_path", "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist"}, word)
}

// imagePURL is pkg:oci with the manifest's digest where a reference has it,
// else with the image's own.
func imagePURL(image event.Image) string {
	digest, repository, tag := image.Digest, "", ""
	for _, ref := range image.References {
		n := parseReference(ref)
		if n.digest != "" {
			digest, repository = n.digest, n.repository
			break
		}
		if repository == "" {
			repository, tag = n.repository, n.tag
		}
	}
	u := packageurl.PackageURL{Type: packageurl.TypeOCI, Name: "image", Version: digest}
	if repository != "" {
		u.Name = lastPart(repository)
		u.Qualifiers = append(u.Qualifiers, packageurl.Qualifier{Key: "repository_url", Value: repository})
	}
	if tag != "" {
		u.Qualifiers = append(u.Qualifiers, packageurl.Qualifier{Key: "tag", Value: tag})
	}
	if err := u.Normalize(); err != nil {
		return "urn:image:" + url.PathEscape(strings.TrimSpace(digest))
	}
	return u.ToString()
}
