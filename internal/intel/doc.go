// Package intel builds, signs, verifies and queries the intelligence bundle:
// what publishers know about vulnerabilities, in one file that works offline.
//
// # On disk
//
// Below the data folder:
//
//	keys/intel.key            Ed25519 private key, PKCS #8 PEM, 0600; made by the first build
//	keys/intel.pub            the public key that bundles must be signed with: the pin
//	keys/intel.verified       which bundle.db was verified last; opening it again skips its digest
//	intel/lock                held (flock) by the one builder
//	intel/bundles/NAME/       one bundle: bundle.db, manifest.json, manifest.sig
//	intel/current             symbolic link to the bundle in use; replaced by rename
//	intel/.build-*            a build that is not finished; removed by the next builder
//	intel/.import-*           what an import, export or push works on; removed at its end
//
// A bundle's folder is written and synced under a temporary name and renamed,
// then the link is replaced: whatever is killed whenever, current names a whole
// bundle. The one before is kept.
//
// # Trust
//
// manifest.sig is the Ed25519 signature of manifest.json, which holds the
// SHA-256 of bundle.db. Open checks both before SQLite sees a byte. Publishers'
// data is untrusted while it is read: package feed bounds it.
//
// # Reproducible
//
// The same publishers' bytes give the same bundle.db byte for byte, whether
// they were fetched anew or carried over from the bundle before. Times of
// fetching and building are in the manifest only.
//
// # Lookups
//
// Most packages are named by no advisory, and a Bloom filter that is read at
// Open answers for them from memory. The others' rows are decoded once, and
// judgements of a version are remembered, within bounds.
//
// # Other hosts, other scanners
//
// Export and Push write a bundle, ExportDelta the rows in which two differ;
// Import and Install take them in on hosts that trust the key. Import also makes
// feeds of trivy-db and Grype databases and of lists.
//
// # Faults of sources
//
// A source that is away or malformed spoils no other: its data of the bundle
// before are kept with their age, the manifest says why, and Match tells of
// what it could not judge.
package intel
