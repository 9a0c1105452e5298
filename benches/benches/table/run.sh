#!/bin/sh
# Runs a command with huge pages reserved (4 GiB, or what there is), on core 1 if there is one, and gives
# the pages back. Usage: run.sh COMMAND...
set -eu

pages=/proc/sys/vm/nr_hugepages
before=$(cat $pages)
restore() { echo "$before" > $pages; }
if [ "$before" -lt 2048 ]; then
    trap restore EXIT
    trap 'exit 130' INT TERM
    echo 2048 > $pages || echo "cannot reserve huge pages: rte_hash may not start" >&2
fi
core=1
[ "$(nproc)" -gt 1 ] || core=0
taskset -c "$core" "$@"
