//! What is sent to the control port by who is not in the cluster.

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use super::nodes::{Ca, Net, Node, on_one_thread, until};
use crate::replicate::Discard;

/// A long header (RFC 9000 section 17.2) of `version`: a handshake packet for the connection `name`.
fn long(version: u32, name: [u8; 8], length: u16) -> Vec<u8> {
    let mut packet = vec![0xe0];
    packet.extend(version.to_be_bytes());
    packet.push(8);
    packet.extend(name);
    packet.push(0);
    packet.extend((0x4000 | length).to_be_bytes());
    packet.resize(packet.len() + usize::from(length), 0x55);
    packet
}

/// Datagrams from a peer's address, and why none of them is believed.
fn datagrams() -> Vec<(Vec<u8>, Discard)> {
    let name = [7; 8];
    let mut cut = long(1, name, 100);
    cut.truncate(60);
    let mut short = vec![0x40];
    short.extend(name);
    let with = |length: usize| [short.clone(), vec![0x55; length]].concat();
    vec![
        (vec![0x40], Discard::Malformed),
        (with(19), Discard::Malformed),
        (with(20), Discard::Connection),
        (with(1400), Discard::Connection),
        (cut, Discard::Malformed),
        (long(1, name, 19), Discard::Malformed),
        (long(2, name, 1200), Discard::Malformed),
        (long(1, name, 100), Discard::Connection),
    ]
}

/// Sends to node 1 and checks that each datagram is counted as told, and none answered.
async fn sent(net: Net, from: IpAddr, datagrams: &[(Vec<u8>, Discard)], nodes: &mut [&mut Node; 2]) {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await.unwrap();
    for (datagram, why) in datagrams {
        let count = |node: &Node| node.replicator.arrivals().discarded[*why as usize];
        let before = count(nodes[0]);
        socket.send_to(datagram, net.address(1)).await.unwrap();
        until(&format!("{why:?} of {datagram:x?}"), nodes, |nodes| count(nodes[0]) == before + 1).await;
    }
    // Node 1 has read them all: an answer would be here.
    let mut answer = [0; 2000];
    assert!(socket.try_recv(&mut answer).is_err(), "an answer");
}

#[test]
fn forged_datagrams_are_counted_by_their_reason_and_not_answered() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let mut b = Node::start(net.config(&ca, 2, &[1, 2]));
        until("both whole", &mut [&mut a, &mut b], |nodes| nodes.iter().all(|n| n.is_whole())).await;
        sent(net, net.address(2).ip(), &datagrams(), &mut [&mut a, &mut b]).await;
        let connection =
            |(datagram, why)| (datagram, if why == Discard::Connection { Discard::Stranger } else { why });
        let strange: Vec<_> = datagrams().into_iter().map(connection).collect();
        sent(net, net.address(9).ip(), &strange, &mut [&mut a, &mut b]).await;
        // Nobody is cut off, and what the two say to each other is counted as well.
        a.put(1, 1);
        until("b has it", &mut [&mut a, &mut b], |[_, b]| b.stats(1).received > 0).await;
        let arrivals = a.replicator.arrivals();
        let discarded: u64 = arrivals.discarded.iter().sum();
        assert!(arrivals.taken > 0 && arrivals.failed == 0, "{arrivals:?}");
        assert_eq!(arrivals.packets, arrivals.taken + discarded + arrivals.keyless, "{arrivals:?}");
        assert_eq!(discarded, 2 * datagrams().len() as u64, "{arrivals:?}");
    });
}
