#!/bin/sh
# Installs with apt what building and testing need and what is missing, and says what it installs.
# Usage: packages.sh build | test | services | bench | deb | vm      (all include build, services also test)
set -eu

# package:what shows that it is there (a program, or a file by absolute path)
BUILD="
clang:clang
llvm:llvm-strip
gcc:gcc
libc6-dev:/usr/include/stdio.h
libelf-dev:/usr/include/libelf.h
zlib1g-dev:/usr/include/zlib.h
m4:m4
make:make
pkg-config:pkg-config
"
TEST="
iproute2:ip
iputils-ping:ping
nftables:nft
ethtool:ethtool
bpftool:bpftool
util-linux:nsenter
tshark:tshark
wireshark-common:dumpcap
nginx-light:nginx
haproxy:haproxy
curl:curl
valgrind:valgrind
etcd-server:etcd
iperf3:iperf3
traceroute:traceroute
iputils-tracepath:tracepath
tcpreplay:tcpprep
"
SERVICES="
squid-openssl:/usr/share/doc/squid-openssl
c-icap:c-icap
libc-icap-mod-virus-scan:/usr/share/doc/libc-icap-mod-virus-scan
clamav-daemon:clamd
libnginx-mod-mail:/usr/share/doc/libnginx-mod-mail
postfix:postfix
dovecot-imapd:/usr/share/doc/dovecot-imapd
swaks:swaks
libnet-ssleay-perl:/usr/share/doc/libnet-ssleay-perl
libio-socket-inet6-perl:/usr/share/doc/libio-socket-inet6-perl
sslsplit:sslsplit
openssl:openssl
"
BENCH="
libdpdk-dev:/usr/share/doc/libdpdk-dev
dpdk-dev:dpdk-testpmd
conntrack:conntrack
conntrackd:conntrackd
keepalived:keepalived
"
DEB="
dpkg-dev:dpkg-shlibdeps
binutils:strip
xz-utils:xz
iproute2:ip
debootstrap:debootstrap
systemd-container:systemd-nspawn
"
VM="
qemu-system-x86:qemu-system-x86_64
busybox-static:busybox
iproute2:ip
python3:/usr/bin/python3
kmod:depmod
cpio:cpio
binutils:strip
dpkg:dpkg-deb
"

# Programs of the administrator are often not in an ordinary user's path.
PATH="$PATH:/usr/sbin:/sbin"

case "${1:-}" in
build) wanted="$BUILD" ;;
test) wanted="$BUILD $TEST" ;;
services) wanted="$BUILD $TEST $SERVICES" ;;
bench) wanted="$BUILD $BENCH" ;;
deb) wanted="$BUILD $DEB" ;;
vm) wanted="$BUILD $VM" ;;
*)
    echo "usage: $0 build|test|services|bench|deb|vm" >&2
    exit 2
    ;;
esac

missing=""
for entry in $wanted; do
    package=${entry%%:*}
    shows=${entry#*:}
    case "$shows" in
    /*) [ -e "$shows" ] || missing="$missing $package" ;;
    *) command -v "$shows" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

echo "missing here, to be installed with apt:$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "there is no apt-get here: install the equivalents of$missing by hand" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "installing needs root and there is no sudo: run as root 'apt-get install$missing'" >&2
        exit 1
    fi
    as_root="sudo"
fi

# A freshly installed nginx would be started on this machine's port 80: policy-rc.d forbids that for the
# time of the installation (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

# Ubuntu has bpftool in linux-tools-common (with a part for the running kernel).
$as_root apt-get -q update
case " $missing " in
*" bpftool "*)
    if ! apt-cache show bpftool 2>/dev/null | grep -q '^Filename:'; then
        missing=$(echo "$missing" | sed "s/ bpftool/ linux-tools-common linux-tools-$(uname -r)/")
    fi
    ;;
esac
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
echo "installed:$missing"
