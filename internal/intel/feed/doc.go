// Package feed reads the formats in which publishers give out what they know:
// OSV records (https://ossf.github.io/osv-schema/, schema 1.x), the bulk
// export's zip and modified_id.csv (https://google.github.io/osv.dev/data/),
// the Debian security tracker's JSON
// (https://security-tracker.debian.org/tracker/data/json) and CISA's Known
// Exploited Vulnerabilities catalogue.
//
// All input is untrusted: every reader is bounded, a malformed record is an
// error of its own that spoils no other, and nothing is written to disk.
package feed
