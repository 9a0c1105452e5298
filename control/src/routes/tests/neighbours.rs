//! Neighbours of a real kernel: asked for, kept resolved, moved.

use std::time::Duration;

use samepath_dataplane::route::Resolution;

use super::super::{Mirrored, RouteMirror};
use super::follow::{Bed, until};
use super::ip;
use super::namespace::{DEADLINE, mac};

fn sent_to(mirrored: &Mirrored, destination: &str, mac: [u8; 6]) -> bool {
    match mirrored.routes.resolve(ip(destination), 0) {
        Resolution::Send(hop) => mirrored.routes.hop(hop).is_some_and(|h| h.destination_mac == mac),
        _ => false,
    }
}

fn state_of(bed: &Bed, address: &str, interface: &str) -> String {
    let entries = bed.node.ip_json(&format!("neigh show {address} dev {interface}"));
    entries[0]["state"][0].as_str().unwrap_or("NONE").to_owned()
}

#[test]
fn kernel_resolves_a_neighbour_when_asked() {
    let bed = Bed::new();
    bed.node.run(|| async {
        let (ifindex, mac) = (bed.node.ifindex("p1"), bed.far.mac("q1"));
        let mut mirror = bed.start();
        for address in ["10.1.0.2", "2001:db8:1::2"] {
            let mirrored =
                until(&mut mirror, "route listed", |m| m.routes.next_hop(ip(address), 0).is_some()).await;
            let unresolved = Resolution::Unresolved { ifindex, address: ip(address) };
            assert_eq!(mirrored.routes.resolve(ip(address), 0), unresolved);
            assert_eq!(mirror.neighbour(ifindex, ip(address)), None);
            mirror.resolve(ifindex, ip(address));
            let mirrored = until(&mut mirror, "resolved", |m| sent_to(m, address, mac)).await;
            assert_eq!(mirror.neighbour(ifindex, ip(address)), Some(mac));
            let Resolution::Send(hop) = mirrored.routes.resolve(ip(address), 0) else { panic!() };
            let hop = mirrored.routes.hop(hop).unwrap();
            assert_eq!((hop.port, hop.source_mac, hop.mtu), (1, bed.node.mac("p1"), 1500));
        }
    });
}

#[test]
fn gateways_and_peers_are_resolved_before_anybody_sends() {
    let bed = Bed::new();
    bed.node.run(|| async {
        let (q0, q1, p1) = (bed.far.mac("q0"), bed.far.mac("q1"), bed.node.mac("p1"));
        bed.node.ip("route add 192.0.2.0/24 via 10.0.0.2");
        let mut mirror = bed.start();
        until(&mut mirror, "gateway at start", |m| sent_to(m, "192.0.2.1", q0)).await;
        bed.node.ip("route add 2001:db8:9::/48 via 2001:db8:1::2");
        until(&mut mirror, "new gateway", |m| sent_to(m, "2001:db8:9::1", q1)).await;
        let (ifindex, peer) = (bed.node.ifindex("p1"), ip("10.1.0.2"));
        assert_eq!(mirror.tunnel_next_hop(1, peer), None);
        mirror.keep_resolved(vec![(ifindex, peer)]);
        until(&mut mirror, "peer", |m| m.routes.tunnel_next_hop(1, peer) == Some((p1, q1))).await;
        assert_eq!(mirror.tunnel_next_hop(0, peer), None, "not by this port");
        assert_eq!(mirror.route_to(peer), Some((ifindex, peer)));
    });
}

#[test]
fn gateway_that_comes_up_late_is_found() {
    let bed = Bed::new();
    bed.node.run(|| async {
        bed.node.ip("route add 192.0.2.0/24 via 10.0.0.77");
        let mut mirror = bed.start();
        until(&mut mirror, "listed", |m| m.routes.next_hop(ip("192.0.2.1"), 0).is_some()).await;
        poll(&bed, "10.0.0.77", "p0", "FAILED", &mirror).await;
        bed.far.ip("addr add 10.0.0.77/24 dev q0");
        let q0 = bed.far.mac("q0");
        until(&mut mirror, "found", |m| sent_to(m, "192.0.2.1", q0)).await;
    });
}

#[test]
fn moved_and_deleted_neighbours_are_noticed() {
    let bed = Bed::new();
    let moved = "02:00:00:00:07:07";
    bed.node.run(|| async {
        bed.node.ip("neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev p0");
        let mut mirror = bed.start();
        let first = mac("02:00:00:00:00:09");
        until(&mut mirror, "permanent", |m| sent_to(m, "10.0.0.9", first)).await;
        bed.node.ip(&format!("neigh replace 10.0.0.9 lladdr {moved} dev p0"));
        until(&mut mirror, "moved", |m| sent_to(m, "10.0.0.9", mac(moved))).await;
        assert_eq!(state_of(&bed, "10.0.0.9", "p0"), "PERMANENT", "not touched by probes");
        bed.node.ip("neigh del 10.0.0.9 dev p0");
        until(&mut mirror, "deleted", |m| {
            matches!(m.routes.resolve(ip("10.0.0.9"), 0), Resolution::Unresolved { .. })
        })
        .await;
    });
}

/// A gateway gets another link address and does not announce it; its entry is stale, nothing in the
/// kernel uses it.
#[test]
fn stale_gateway_that_moved_in_silence_is_noticed() {
    let bed = Bed::new();
    let moved = "02:00:00:00:07:08";
    bed.node.run(|| async {
        // The kernel's own patience, shortened: 5 s before the first probe, 1 s between probes.
        for (name, value) in [("delay_first_probe_time", "1"), ("retrans_time_ms", "100")] {
            let path = format!("/proc/sys/net/ipv4/neigh/p0/{name}");
            std::fs::write(path, value).unwrap();
        }
        bed.node.ip("route add 192.0.2.0/24 via 10.0.0.2");
        bed.node.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev p0 nud stale");
        bed.far.ip("link set q0 down");
        bed.far.ip(&format!("link set q0 address {moved}"));
        bed.far.ip("link set q0 up");
        let mut mirror = bed.start();
        until(&mut mirror, "moved", |m| sent_to(m, "192.0.2.1", mac(moved))).await;
    });
}

/// Waits until the kernel's entry is in `state`, while the mirror goes on.
async fn poll(bed: &Bed, address: &str, interface: &str, state: &str, mirror: &RouteMirror) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let waiting = async {
        while state_of(bed, address, interface) != state {
            ticks.tick().await;
        }
    };
    let done = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(done.is_ok(), "{address} is not {state}; {:?}", mirror.latest());
}
