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
  umount -l "$dir/bpf" 2>/dev/null || true
  rm -rf "$dir"
done

export BREAKWATER_TEST_REQUIRE=1
# Two packages at a time at most: several start a container engine each.
exec go test -p 2 -timeout 12m "$@" ./...
