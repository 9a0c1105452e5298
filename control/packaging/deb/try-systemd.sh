#!/bin/sh
# Boots a Debian with the package and a configured node in a container and lets its systemd run the unit:
# try-systemd.sh ROOT NETWORK-NAMESPACE. Ends with 0 if everything was as it should be.
set -eu

root=$1
space=$2
unit=samepath@node1
log=$root/../systemd.log
systemd-nspawn -q -D "$root" --boot --network-namespace-path="/run/netns/$space" --machine="$space" --capability=all \
    --system-call-filter="bpf seccomp @memlock landlock_create_ruleset landlock_add_rule landlock_restrict_self" --rlimit=MEMLOCK=infinity --register=no --keep-unit </dev/null >"$log" 2>&1 &
container=$!
init=
stop() {
    if [ -n "$init" ]; then kill -s RTMIN+4 "$init" 2>/dev/null || true; fi
    for _ in $(seq 300); do kill -0 "$container" 2>/dev/null || return 0; sleep 0.1; done
    kill -9 "$container"
}
trap stop EXIT
trap "exit 1" INT TERM

inside() { nsenter -t "$init" -m -p -n -u -i -- "$@"; }
# Asks until it is so, half a minute at most.
until_true() {
    what=$1
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then echo "ok: $what"; return 0; fi
        sleep 0.1
    done
    echo "FAILED: $what"
    inside journalctl -u "$unit" -n 20 --no-pager 2>/dev/null || tail -n 20 "$log"
    exit 1
}
has_init() {
    init=$(cat "/proc/$container/task/$container/children" | cut -d ' ' -f 1)
    [ -n "$init" ] && [ "$(cat "/proc/$init/comm")" = systemd ]
}
property() { inside systemctl show -p "$1" --value "$unit"; }
is_ready() { inside samepath status; }
restarted() { [ "$(property NRestarts)" -gt "$1" ] && is_ready; }
was_killed_by() { inside journalctl -u "$unit" --no-pager | grep -q "$1"; }

until_true "systemd is process 1" has_init
until_true "it has booted" inside systemctl is-active multi-user.target
# A container's /sys is not writable; a machine's has this already.
inside sh -c 'mount -o remount,rw /sys && mount -t bpf bpf /sys/fs/bpf'
inside systemctl start "$unit"
until_true "the node is ready (Type=notify)" is_ready
pid=$(property MainPID)
check="Uid:.*$(inside id -u samepath)"
until_true "it runs as its own user" inside grep -q "$check" "/proc/$pid/status"
until_true "under a filter of system calls" inside grep -q "^Seccomp:.2" "/proc/$pid/status"
until_true "its files are confined, as far as this kernel can" inside sh -c 'samepath status | grep -Eq "^landlock (ABI|absent)"'
until_true "reload" inside systemctl reload "$unit"

inside sh -c "kill -9 $pid"
until_true "killed, it is started again" restarted 0
inside sh -c "kill -STOP $(property MainPID)"
until_true "standing still, its watchdog ends it and it is started again" restarted 1
until_true "the journal says so" was_killed_by watchdog

inside mkdir -p "/run/systemd/system/$unit.service.d"
inside sh -c "printf '[Service]\nSystemCallFilter=~sendto\n' >/run/systemd/system/$unit.service.d/forbid.conf"
inside systemctl daemon-reload
inside systemctl restart "$unit" 2>/dev/null || true
until_true "a forbidden system call ends it" was_killed_by "status=31/SYS"
inside rm "/run/systemd/system/$unit.service.d/forbid.conf"
inside systemctl daemon-reload
until_true "and it is tried again until it can start" is_ready

inside systemctl stop "$unit"
until_true "stopped, it leaves nothing attached" inside sh -c '! ip link | grep -q xdp'
until_true "and has not failed" [ "$(property Result)" = success ]
