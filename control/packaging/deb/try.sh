#!/bin/sh
# Tries a package as a new user would: try.sh PACKAGE WORK-DIR. A fresh Debian 12 in WORK-DIR, the package installed
# there, its commands, unit, man pages and completions looked at. Needs root and debootstrap.
set -eu

package=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$2
mirror=${MIRROR:-$(sed -n 's/^URIs: //p; s/^deb \([a-z:]*[^ ]*\) .*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)}
mirror=${mirror:-http://deb.debian.org/debian}
root=$work/debian12
base=$work/debian12.tar

step() { printf '\n== %s\n' "$*"; }
# In its network, with /proc and /sys of its own.
inside() {
    ip netns exec "$space" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root \
        unshare --pid --fork --mount sh -euc \
        'mount -t sysfs sysfs "$0/sys"; mount -t proc proc "$0/proc"; exec chroot "$0" "$@"' "$root" "$@"
}
# The network is the machine's only while packages are fetched.
online() {
    env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}

mkdir -p "$work"
space=samepath-deb-$$
cleanup() {
    ip netns delete "$space" 2>/dev/null || true
}
trap cleanup EXIT
trap "exit 1" INT TERM

step "a fresh Debian 12"
if [ ! -e "$base" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,man-db,bash-completion,ca-certificates bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
    tar -C "$root" -cf "$base.new" . && mv "$base.new" "$base"
fi
rm -rf "$root"
mkdir -p "$root"
tar -C "$root" -xf "$base"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# Machines that reach packages another way than a fresh system would.
for file in /etc/apt/apt.conf.d/*prox*; do [ ! -e "$file" ] || cp "$file" "$root/etc/apt/apt.conf.d/"; done
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
. "$root/etc/os-release"
echo "$PRETTY_NAME"

step "apt-get install ./$(basename "$package")"
cp "$package" "$root/tmp/samepath.deb"
online apt-get -q update >"$work/apt.log" 2>&1
online apt-get -q install -y /tmp/samepath.deb >>"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; exit 1; }
grep '^samepath: ' "$work/apt.log"
online dpkg-query -W -f '${Package} ${Version} ${Status}\n' samepath
online dpkg -V samepath

# From here on in a network of its own, with three veths for a node's interfaces.
ip netns add "$space"
for link in eth0 eth1 eth2; do
    ip -n "$space" link add $link type veth peer name "far$link"
    ip -n "$space" link set $link up
    ip -n "$space" link set "far$link" up
done
ip -n "$space" address add 10.11.0.1/24 dev eth0
ip -n "$space" address add 10.12.0.1/24 dev eth1
ip -n "$space" address add 10.9.0.1/24 dev eth2
failed=0
check() {
    what=$1
    shift
    if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failed=1; fi
}

step "the user, the folder, nothing started"
inside getent passwd samepath
inside stat -c '%A %U:%G %n' /etc/samepath
check "the user cannot log in" inside sh -c 'getent passwd samepath | grep -q ":/nonexistent:/usr/sbin/nologin$"'
check "no node was enabled" inside sh -c '! find /etc/systemd -name "samepath@*" | grep -q .'

step "samepath --version"
inside samepath --version
inside ldd /usr/bin/samepath | grep 'not found' && failed=1

step "keys and a configuration from the example"
inside sh -euc '
    cd /etc/samepath
    samepath keys init keys
    samepath keys issue keys --node 1
    chown -R samepath: keys
    cp /usr/share/doc/samepath/examples/node1.toml .'
check "samepath check" inside samepath check --config /etc/samepath/node1.toml

step "samepath setup check"
code=0
inside samepath setup check || code=$?
check "exit code 0 or 5 (is $code)" [ "$code" = 0 -o "$code" = 5 ]

step "samepath doctor"
code=0
inside samepath doctor || code=$?
check "it ends by itself (exit code $code)" [ "$code" = 0 -o "$code" = 1 -o "$code" = 5 ]

step "systemd-analyze verify"
inside sh -c 'systemd-analyze verify samepath@node1.service' >"$work/verify.log" 2>&1 || failed=1
cat "$work/verify.log"
check "it has no complaint about the unit" sh -c "! grep -q samepath '$work/verify.log'"

step "systemd-analyze security --offline=true"
inside systemd-analyze security --offline=true --no-pager samepath@node1.service >"$work/security.log" 2>&1 || failed=1
tail -n 2 "$work/security.log"

step "man pages and completions"
check "samepath(1)" inside sh -c 'man -w samepath && man samepath | grep -q "samepath-doctor(1)"'
check "samepath-run(1) has every option" inside sh -c 'man samepath-run | grep -q -- --cluster-link'
check "bash completes commands" inside bash -ec '
    . /usr/share/bash-completion/completions/samepath
    COMP_WORDS=(samepath do) COMP_CWORD=1
    _samepath samepath do samepath
    [ "${COMPREPLY[*]}" = doctor ]'
check "zsh and fish have theirs" inside sh -c 'test -s /usr/share/zsh/vendor-completions/_samepath && test -s /usr/share/fish/vendor_completions.d/samepath.fish'

step "promtool check rules"
online apt-get -q install -y --no-install-recommends prometheus >>"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; exit 1; }
check "the alert rules" inside promtool check rules /usr/share/doc/samepath/docs/prometheus/alerts.yml

step "a real systemd: start, crash, standstill, a forbidden system call, stop"
check "systemd runs the unit" "$here/try-systemd.sh" "$root" "$space"

step "a second installation, removal, purge"
inside dpkg -i /tmp/samepath.deb >/dev/null
inside dpkg -r samepath >/dev/null
check "keys and configuration outlive removal" inside sh -c 'test -e /etc/samepath/keys/ca.crt && test -e /etc/samepath/node1.toml'
inside dpkg -P samepath >/dev/null 2>&1
check "the program is gone" inside sh -c '! test -e /usr/bin/samepath && ! test -e /lib/systemd/system/samepath@.service'

[ "$failed" = 0 ] && printf '\nthe package works\n'
exit "$failed"
