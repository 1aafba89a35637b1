#!/bin/sh
# bench.sh: what Breakwater costs, measured on this machine. Everything is
# measured side by side in one run, interleaved; medians with their spread.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
  echo "Measuring enforcement needs root: run 'sudo make bench'." >&2
  exit 3
fi
scripts/need.sh test
make --no-print-directory build
echo "machine: $(nproc) cores, kernel $(uname -r), load $(cut -d' ' -f1 /proc/loadavg)"

echo; echo "== scan of a 750 MB archive, against one pass over its bytes"
go run ./bench/scan -breakwater bin/breakwater "$@"

echo; echo "== the intelligence bundle: build, update without news, lookups in 320,000 advisories"
go run ./bench/intel

echo; echo "== new intelligence on disk until 20,000 stored images are judged by it"
go run ./bench/rejudge -images 20000

echo; echo "== fork+exec of a static program in a container: guarded by the full policy against nothing loaded"
go run ./bench/fork -breakwater bin/breakwater

echo; echo "== opening and closing files, the same way"
go run ./bench/fork -breakwater bin/breakwater -what open

echo; echo "== a gate's decision with a known verdict"
go test -run '^$' -bench Decision -benchtime 8s ./internal/gate

echo; echo "== an agent at rest with 20 containers"
go run ./bench/rest -breakwater bin/breakwater

echo; echo "== detection: events that no rule looks at, and events that match nothing"
go test -run '^$' -bench . ./internal/detect
