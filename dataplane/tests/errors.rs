//! ICMP errors of others: they reach the Owner of the flow they quote, who checks what they say.

mod cluster;

use std::net::Ipv4Addr;

use cluster::{ACK, Cluster, INSIDE, OUTSIDE, hosts, sound, tcp};
use samepath_dataplane::verdict::DropReason;

/// Of the client and the server of [`Cluster::establish`].
const PORTS: (u16, u16) = (1000, 80);

/// "Fragmentation needed" from a router behind the clients about a segment of the server.
fn too_big(quoted: &[u8], mtu: u16, to: Ipv4Addr) -> Vec<u8> {
    let quote = &quoted[14..14 + 28];
    let [high, low] = mtu.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    frame.extend([0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 10, 1, 255, 1]);
    frame.extend(to.octets());
    sound(&mut frame);
    frame.extend([3, 4, 0, 0, 0, 0, high, low]);
    frame.extend(quote);
    frame
}

/// A connection owned by node 1; its server has sent up to 501.
fn connected() -> (Cluster, Ipv4Addr, Ipv4Addr) {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.establish(client, server);
    cluster.delivered.clear();
    (cluster, client, server)
}

#[test]
fn an_error_is_checked_by_the_owner_wherever_it_arrives() {
    for node in 1..=3 {
        for (seq, mtu, reason) in [
            (500_i64, 1400, None),
            (501, 0, None),
            (502, 1400, Some(DropReason::IcmpErrorWindow)),
            (501 - 70_000, 1400, Some(DropReason::IcmpErrorWindow)),
            (500, 551, Some(DropReason::IcmpErrorMtu)),
        ] {
            let (mut cluster, client, server) = connected();
            let quoted = tcp((server, PORTS.1), (client, PORTS.0), ACK, seq as u32, 101);
            cluster.arrive(node, INSIDE, &too_big(&quoted, mtu, server));
            cluster.settle();
            let case = format!("sequence number {seq}, MTU {mtu}, at node {node}");
            let out: Vec<_> = cluster.delivered.iter().map(|(node, port, _)| (*node, *port)).collect();
            match reason {
                None => assert_eq!(out, [(1, OUTSIDE)], "{case}: the Owner sends it on to the server"),
                Some(reason) => assert_eq!((out.len(), cluster.drops(1, reason)), (0, 1), "{case}"),
            }
            cluster.check_accounts();
        }
    }
}

#[test]
fn an_error_about_nothing_is_unrelated() {
    let (mut cluster, client, server) = connected();
    let quoted = tcp((server, 81), (client, PORTS.0), ACK, 500, 101);
    cluster.arrive(3, INSIDE, &too_big(&quoted, 1400, server));
    cluster.settle();
    let unrelated: u64 = (1..=3).map(|node| cluster.drops(node, DropReason::IcmpErrorUnrelated)).sum();
    assert_eq!((cluster.delivered.len(), unrelated), (0, 1));
}
