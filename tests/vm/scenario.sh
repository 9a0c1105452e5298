#!/bin/sh
# Inside the machine: two nodes between a generator's four interfaces, then the checks, then a clean stop.
#
#              ┌─ east1 ── inside  node 1  outside ── west1 ─┐
#   namespace  │                  cluster                    │  namespace
#   gen        │                     │                       │  gen
#              │                  cluster                    │
#              └─ east2 ── inside  node 2  outside ── west2 ─┘
#   and, for the search:  polica ── in  namespace police (2,000 packets per second)  out ── policb
set -eu

failed=0
ok() { echo "ok: $*"; }
bad() {
    echo "FAILED: $*"
    failed=1
}
# Asks until it is so, 100 seconds at most: other work of the host may slow all this down.
until_true() {
    what=$1
    shift
    end=$(($(date +%s) + 100))
    while [ "$(date +%s)" -lt $end ]; do
        if "$@" >/dev/null 2>&1; then ok "$what"; return 0; fi
        sleep 0.2
    done
    bad "$what"
    tail -n 20 /run/node*.log 2>/dev/null || true
    exit 1
}
inside() {
    space=$1
    shift
    nsenter -n"/run/netns/$space" "$@"
}
ask() {
    node=$1
    shift
    samepath "$@" --control-socket "/run/node$node.sock"
}

spaces() {
    for space in gen n1 n2 police; do
        ip netns add "$space"
        inside "$space" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip -n "$space" link set lo up
    done
}

# link NAME NAMESPACE MAC NAME NAMESPACE MAC: with one queue at each end and room for a tunnel header.
link() {
    ip link add "$1" address "$3" mtu "$7" numtxqueues 1 numrxqueues 1 netns "$2" type veth \
        peer name "$4" address "$6" mtu "$7" numtxqueues 1 numrxqueues 1 netns "$5"
    ip -n "$2" link set "$1" up
    ip -n "$5" link set "$4" up
}

network() {
    for node in 1 2; do
        link east$node gen 02:00:00:01:0$node:01 inside n$node 02:00:00:01:0$node:02 1500
        link west$node gen 02:00:00:02:0$node:01 outside n$node 02:00:00:02:0$node:02 1500
        ip -n gen address add 10.11.$node.1/24 dev east$node
        ip -n gen address add 10.12.$node.1/24 dev west$node
        ip -n n$node address add 10.11.$node.2/24 dev inside
        ip -n n$node address add 10.12.$node.2/24 dev outside
        ip -n n$node route add 10.1.0.0/16 via 10.11.$node.1
        ip -n n$node route add 10.2.0.0/16 via 10.12.$node.1
    done
    link cluster n1 02:00:00:09:00:01 cluster n2 02:00:00:09:00:02 1700
    ip -n n1 address add 10.9.0.1/24 dev cluster
    ip -n n2 address add 10.9.0.2/24 dev cluster
    for node in 1 2; do
        for neighbour in 10.11.$node.1 10.12.$node.1 10.9.0.$((3 - node)); do
            until_true "node $node reaches $neighbour" inside n$node ping -c 1 -W 1 $neighbour
        done
    done
}

policer() {
    link polica gen 02:00:00:03:00:01 in police 02:00:00:03:00:02 1500
    link policb gen 02:00:00:03:00:04 out police 02:00:00:03:00:03 1500
    inside police tc qdisc add dev in clsact
    inside police tc filter add dev in ingress matchall \
        action police pkts_rate 2000 pkts_burst 100 conform-exceed drop/pipe action mirred egress redirect dev out
}

# The emulated processors are slow: nobody is dead for a while of silence. A process of its own becomes the node: $!.
start() {
    node=$1
    nsenter -n/run/netns/n$node samepath run --node-id $node --cluster-id 7001 --keys /run/keys \
        --data inside=inside --data outside=outside \
        --cluster-link cluster --cluster-address 10.9.0.$node --peer $((3 - node))=10.9.0.$((3 - node)) \
        --workers 1 --cores $((node - 1)) --idle sleep --xdp-mode native --sessions-max 65536 --ring-size 4096 \
        --hello-interval-ms 500 --peer-timeout-ms 30000 --join-grace-ms 30000 \
        --control-socket /run/node$node.sock >/run/node$node.log 2>&1 &
}
sees_both() { [ "$(ask "$1" members --json | grep -o '"live": *true' | wc -l)" = 2 ]; }
stopped() {
    code=0
    wait "$1" || code=$?
    [ "$code" = 0 ]
}
attached() { ip -n "$1" link | grep -q xdp; }

echo "Linux $(uname -r), $(samepath --version), $(python3 --version)"
spaces
network
policer
samepath keys init /run/keys >/dev/null
for node in 1 2; do samepath keys issue /run/keys --node $node >/dev/null; done
start 1
first=$!
start 2
second=$!
for node in 1 2; do
    until_true "node $node is ready" ask $node status
    until_true "node $node sees both" sees_both $node
    attached n$node && ok "node $node has its XDP program on" || bad "node $node has no XDP program on"
done

ip netns exec gen python3 /vm/check.py || failed=1

kill "$first" "$second"
for process in "$first" "$second"; do
    if stopped "$process"; then ok "a node stops cleanly"; else bad "a node ended with $code"; fi
done
for node in 1 2; do
    attached n$node && bad "node $node left its XDP program on" || ok "node $node leaves nothing attached"
done
[ "$failed" = 0 ] || tail -n 20 /run/node*.log
exit "$failed"
