// Package feed reads the formats in which publishers give out what they know:
//
//   - OSV records (https://ossf.github.io/osv-schema/, schema 1.x), the bulk
//     export's zip and modified_id.csv (https://google.github.io/osv.dev/data/);
//   - the Debian security tracker's JSON
//     (https://security-tracker.debian.org/tracker/data/json), Alpine's secdb,
//     Red Hat's CSAF VEX, OVAL of SUSE, Oracle and Azure Linux, updateinfo.xml;
//   - CISA's Known Exploited Vulnerabilities, EPSS, NVD's CVE 2.0;
//   - lists of hashes and indicators: plain, CSV, STIX 2.1; archives of detections.
//
// Packages trivydb and grypedb below it read other scanners' databases.
//
// All input is untrusted: every reader is bounded in bytes, depth and number, a
// malformed record is an error of its own that spoils no other, and nothing is
// written to disk.
package feed
