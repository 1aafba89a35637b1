// Package trivydb reads a trivy-db of schema 2, the vulnerability database that
// Trivy downloads as an OCI artifact (ghcr.io/aquasecurity/trivy-db:2): a bbolt
// file, here read by an own reader of its pages that checks every offset, as the
// file comes from elsewhere. Layout of the buckets:
// https://github.com/aquasecurity/trivy-db; of the pages: https://github.com/etcd-io/bbolt.
package trivydb
