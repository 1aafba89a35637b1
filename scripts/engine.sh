#!/bin/sh
# engine.sh: makes sure that a Docker engine runs on this host, saying what it
# does. A running one is left as it is.
set -eu
say() { printf '%s\n' "$*" >&2; }

if docker version >/dev/null 2>&1; then exit 0; fi
if [ "$(id -u)" != 0 ]; then
  say "No container engine answers and starting one needs root: run 'sudo make run', or start Docker first."
  exit 3
fi
engine=
if [ -d /run/systemd/system ]; then
  say "starting the Docker engine: systemctl start docker"
  systemctl start docker
else
  log=/var/log/breakwater-dockerd.log
  say "no engine runs and there is no systemd: starting dockerd by hand (log: $log)"
  rm -f /var/run/docker.pid
  # Debian keeps it in /usr/sbin, Ubuntu in /usr/bin.
  setsid "$(PATH=$PATH:/usr/sbin command -v dockerd)" >"$log" 2>&1 </dev/null &
  engine=$!
fi
tries=0
until docker version >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ -n "$engine" ] && ! kill -0 "$engine" 2>/dev/null; then
    say "dockerd ended: $(tail -n 1 "$log")"
    exit 3
  fi
  if [ "$tries" -gt 60 ]; then
    say "The Docker engine did not answer within 60 s; see its log."
    exit 3
  fi
  sleep 1
done
say "the Docker engine answers"
