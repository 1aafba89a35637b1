// Package vuln is the model of what publishers say about vulnerabilities, and
// the judgement whether a package version is one of those they mean: version
// orders, affected ranges, severities, and the merging of several publishers'
// advisories on one vulnerability into one finding.
//
// It is pure: no files, no network, no clock. Values are safe for concurrent
// reading. The range language is that of the OSV schema 1.6
// (https://ossf.github.io/osv-schema/); distributions' statements are put into
// the same form by their readers (internal/intel/feed).
package vuln
