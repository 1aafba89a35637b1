#!/bin/sh
# need.sh GROUP…: installs the Debian or Ubuntu packages that a group of tasks
# needs and that are missing, saying what and why. Groups: run demo test kernel
# generate yara. Does nothing when nothing is missing.
set -eu

say() { printf '%s\n' "$*" >&2; }

# command or file that proves it | package | reason
# Of packages with a comma between them the first that this release has: Debian
# 13 took the client out of docker.io, Ubuntu has chromium under another name.
list() {
  case "$1" in
  run) cat <<'L'
dockerd|docker.io|a container engine to guard
docker|docker-cli,docker.io|the engine's command line
apparmor_parser|apparmor|without it the engine starts no container on kernels with AppArmor
L
    ;;
  demo) cat <<'L'
/bin/busybox|busybox-static|the root of the images of the demo and of the attack suite
ip|iproute2|addresses for the strangers that they talk to
L
    ;;
  test) cat <<'L'
dockerd|docker.io|tests run against a real engine
docker|docker-cli,docker.io|the engine's command line
apparmor_parser|apparmor|without it the engine starts no container on kernels with AppArmor
/bin/busybox|busybox-static|the root of the test images
rsyslogd|rsyslog|a real syslog receiver
/usr/share/doc/rsyslog-gnutls|rsyslog-gnutls|syslog over TLS
clamd|clamav-daemon|a real malware engine
chromium|chromium,chromium-browser|a real browser for the console's tests
ip|iproute2|network namespaces for tests
nc|netcat-openbsd|listeners that attacks try to reach
gcc|gcc|the race detector
/usr/include/stdlib.h|libc6-dev|the race detector
openssl|openssl|certificates of test receivers
rpm|rpm|what RPM itself says of versions
shellcheck|shellcheck|checks the scripts
/usr/include/yara.h|libyara-dev|a real YARA to evaluate rules with
docker-registry|docker-registry|a real registry to pull from
podman|podman|a real storage of Podman's
debootstrap|debootstrap|a root of ordinary workloads, with the packages of this release
script|bsdutils|a terminal for an administrator
L
    ;;
  kernel) cat <<'L'
/bin/busybox|busybox-static|the root of guest kernels
dpkg-deb|dpkg|unpacks kernel packages
zstd|zstd|unpacks kernel images
lz4|lz4|unpacks kernel images
cpio|cpio|builds the guests' initial file systems
L
    ;;
  yara) cat <<'L'
gcc|gcc|links what is written in C
/usr/include/stdlib.h|libc6-dev|links what is written in C
/usr/include/yara.h|libyara-dev|evaluates YARA rules
L
    ;;
  generate) cat <<'L'
clang-19|clang-19|compiles the eBPF programs
llvm-strip-19|llvm-19|strips the eBPF objects
/usr/include/bpf/bpf_helpers.h|libbpf-dev|declarations of the kernel's eBPF helpers
L
    ;;
  *) say "need.sh: no group named $1 (run, demo, test, kernel, generate, yara)"; exit 2 ;;
  esac
}

present() {
  case "$1" in
  /*) [ -e "$1" ] ;;
  *) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] ;;
  esac
}

packages=""
for group in "$@"; do
  rows=$(list "$group")
  while IFS='|' read -r proof package reason; do
    present "$proof" && continue
    case " $packages " in *" $package "*) continue ;; esac
    say "missing: $package ($reason)"
    packages="$packages $package"
  done <<EOF
$rows
EOF
done
[ -z "$packages" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  say "This machine has no apt-get: install these packages' equivalents by hand, then try again:$packages"
  exit 3
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null 2>&1 || { say "Installing needs root, and there is no sudo: run 'apt-get install$packages' as root."; exit 3; }
  sudo="sudo"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed() {
  tail -n 20 "$log" >&2
  say "Installing failed; apt-get's last words are above. Wanted:$packages"
  exit 3
}
$sudo apt-get update >"$log" 2>&1 || failed
chosen=""
for names in $packages; do
  name=${names%%,*}
  while [ "$name" != "$names" ] && ! apt-cache show "$name" >/dev/null 2>&1; do
    names=${names#*,}
    name=${names%%,*}
  done
  chosen="$chosen $name"
done
say "installing:$chosen"
# shellcheck disable=SC2086 # the list is ours, one word a package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $chosen >"$log" 2>&1 || failed
