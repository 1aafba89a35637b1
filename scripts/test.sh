#!/bin/sh
# test.sh: installs what the tests need and runs all of them, against real
# components, leaving nothing out. Arguments go to `go test`.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
  echo "The tests load eBPF programs and start container engines: run 'sudo make test'." >&2
  echo "Without root, plain 'go test ./...' runs what needs neither and says what it left out." >&2
  exit 3
fi
scripts/need.sh test

# Pins of a test that was killed would keep enforcing: remove them first. The
# tests pin below a folder of their own in a private bpffs.
for dir in /run/breakwater-test-*; do
  [ -d "$dir" ] || continue
  # A small disk of a test that tries a full one may still be mounted, too.
  awk -v d="$dir/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
    while read -r mounted; do umount -l "$mounted" || true; done
  rm -rf "$dir" || echo "test.sh: $dir of an earlier test stays" >&2
done

export BREAKWATER_TEST_REQUIRE=1

# The rooms where goroutines meet run under the race detector, the others as
# users run them (CGO off). Two packages at a time: several start an engine each.
racy='internal/(agent|auth|bus|detect|notify|sensor|spool|store)(/|$)'
status=0
# shellcheck disable=SC2046 # package paths hold no spaces
go test -race -p 2 -timeout 12m "$@" $(go list ./... | grep -E "$racy") || status=1
# shellcheck disable=SC2046
CGO_ENABLED=0 go test -p 2 -timeout 12m "$@" $(go list ./... | grep -vE "$racy") || status=1

# What stands behind the build tag yara, with the whole command around it.
CGO_ENABLED=1 go test -tags yara -run YARA -timeout 12m "$@" ./internal/malware ./internal/scan ./cmd/breakwater || status=1

# Every fuzz target for an equal share of a minute, building included: what the
# fuzzers find fails the run, is printed, and lies among the package's seeds.
go run ./internal/testenv/fuzz/cmd -budget 60s || status=1
exit "$status"
