//! Nodes that must not talk to each other, and what they say.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::PrivateKeyDer;
use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::flow::NodeId;

use super::nodes::{Ca, Net, Node, on_one_thread, until};
use crate::replicate::{By, NodeKeys, PeerEvent, ReplicateConfig, Replicator, StartError};

/// Starts nodes 1 and 2, changed as told, until each has been given a reason with its words, found
/// by the side named; and checks that nothing else passed between them.
async fn refused(change: impl Fn(&mut ReplicateConfig, &mut ReplicateConfig), reasons: [(By, &str); 2]) {
    let (net, ca) = (Net::new(), Ca::new("cluster"));
    let mut configs = [1, 2].map(|node| net.config(&ca, node, &[1, 2]));
    let [first, second] = &mut configs;
    change(first, second);
    let [mut a, mut b] = configs.map(Node::start);
    a.put(1, 1);
    let told = |node: &Node, (by, words): (By, &str)| {
        node.seen.iter().any(|event| {
            matches!(event, PeerEvent::Refused { reason, by: found, .. }
                if *found == by && reason.contains(words))
        })
    };
    until(&format!("{reasons:?}"), &mut [&mut a, &mut b], |[a, b]| {
        told(a, reasons[0]) && told(b, reasons[1])
    })
    .await;
    for node in [&a, &b] {
        assert!(node.history.is_empty());
        assert!(node.seen.iter().all(|event| matches!(event, PeerEvent::Refused { .. })));
        assert!(node.replicator.stats().iter().all(|stats| !stats.connected));
        let refused = &node.replicator.stats()[0].refused;
        assert!(refused.is_some(), "kept for `samepath status`");
    }
}

#[test]
fn other_cluster() {
    let words = "--cluster-id";
    on_one_thread(refused(|_, b| b.cluster = 8, [(By::Them, words), (By::Us, words)]));
    on_one_thread(refused(|_, b| b.cluster = 8, [(By::Us, words), (By::Them, words)]));
}

#[test]
fn other_director_hash() {
    let change = |_: &mut ReplicateConfig, b: &mut ReplicateConfig| {
        b.director_hash = DirectorHash::FiveTuple;
    };
    on_one_thread(refused(change, [(By::Them, "ip-pair"), (By::Us, "--director-hash")]));
}

#[test]
fn other_cluster_keys_under_one_ca() {
    let words = "different cluster keys";
    on_one_thread(refused(|_, b| b.fingerprint = 1, [(By::Us, words), (By::Them, words)]));
}

#[test]
fn other_ca_of_another_and_of_the_same_name() {
    for name in ["another", "cluster"] {
        let other = Ca::new(name);
        let change = |_: &mut ReplicateConfig, b: &mut ReplicateConfig| b.keys = other.keys(2);
        let (us, them) = ("not signed by this cluster's CA", "another CA signed it");
        on_one_thread(refused(change, [(By::Us, us), (By::Them, them)]));
        on_one_thread(refused(change, [(By::Them, them), (By::Us, us)]));
    }
}

#[test]
fn expired_certificate() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let mut old = net.config(&ca, 2, &[1, 2]);
        old.keys = ca.keys_until(2, 2020);
        let mut b = Node::start(old);
        until("both say expired", &mut [&mut a, &mut b], |nodes| {
            nodes.iter().all(|node| format!("{:?}", node.refusals()).contains("expired"))
        })
        .await;
    });
}

#[test]
fn two_nodes_with_one_number() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        // Stands at node 2's address with node 1's number and keys.
        let mut twin = net.config(&ca, 1, &[]);
        twin.bind = net.address(2);
        twin.peers = vec![(NodeId(2), net.address(1))];
        let mut b = Node::start(twin);
        until("both are told", &mut [&mut a, &mut b], |nodes| {
            nodes.iter().all(|node| format!("{:?}", node.refusals()).contains("two nodes have the number 1"))
        })
        .await;
        assert!(!a.stats(2).connected);
    });
}

#[test]
fn number_or_address_other_than_configured() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        // Node 3 stands where node 1 expects node 2.
        let mut other = net.config(&ca, 3, &[1, 3]);
        other.bind = net.address(2);
        let mut b = Node::start(other);
        until("both are told", &mut [&mut a, &mut b], |[a, b]| {
            let (a, b) = (format!("{:?}", a.refusals()), format!("{:?}", b.refusals()));
            a.contains("has the certificate of node 3")
                && a.contains("node 3 is no peer of node 1")
                && b.contains("node 3 is no peer of node 1")
                && b.contains("correct --peer")
        })
        .await;
    });
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2, 3]));
        // Node 2 stands at node 3's address.
        let mut moved = net.config(&ca, 2, &[1, 2]);
        moved.bind = net.address(3);
        let mut b = Node::start(moved);
        until("both are told", &mut [&mut a, &mut b], |nodes| {
            nodes
                .iter()
                .all(|node| format!("{:?}", node.refusals()).contains("but is configured there as --peer 2="))
        })
        .await;
    });
}

#[test]
fn stranger_is_turned_away_at_once() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let mut stranger = Node::start(net.config(&ca, 9, &[1, 9]));
        until("both are told", &mut [&mut a, &mut stranger], |[a, stranger]| {
            format!("{:?}", a.refusals()).contains("no peer is configured at that address")
                && format!("{:?}", stranger.refusals()).contains("add this node to its --peer list")
        })
        .await;
        assert!(matches!(a.refusals()[0], PeerEvent::Refused { peer: None, by: By::Us, .. }));
    });
}

#[test]
fn connection_without_a_certificate() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.keys(1).cas.remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"samepath/1".to_vec()];
        let endpoint = quinn::Endpoint::client(net.address(2)).unwrap();
        let tls = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = endpoint.connect_with(tls, net.address(1), "node-1.samepath").unwrap();
        until("A says why", &mut [&mut a], |[a]| {
            format!("{:?}", a.refusals()).contains("without a certificate")
        })
        .await;
        // The handshake is over for the client before its certificate is missed.
        let closed = match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        assert!(matches!(closed, quinn::ConnectionError::ConnectionClosed(_)), "{closed:?}");
    });
}

fn start_error(config: ReplicateConfig) -> StartError {
    Node::try_start(config).map(|_| ()).unwrap_err()
}

#[test]
fn what_cannot_work_is_said_at_start() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let config = |node| net.config(&ca, node, &[1, 2]);
        let _a = Node::start(config(1));
        let said = start_error(config(1)).to_string();
        let ip = net.address(1).ip();
        assert!(said.contains(&format!("control port 6082 on {ip} is in use")), "{said}");
        assert!(said.contains("choose another with --control-port"), "{said}");

        let mut elsewhere = config(2);
        elsewhere.bind = "192.0.2.1:6082".parse().unwrap();
        let said = start_error(elsewhere).to_string();
        assert!(said.contains("192.0.2.1 is not an address of this machine"), "{said}");

        let mut other_keys = config(2);
        other_keys.keys = ca.keys(5);
        let said = start_error(other_keys).to_string();
        assert!(said.contains("belong to node 5, but --node-id is 2"), "{said}");

        let mut mixed = config(2);
        let (key, keys) = (ca.keys(2).node_key_der, &mut mixed.keys);
        *keys = NodeKeys { node_key_der: key, ..ca.keys(2) };
        assert!(matches!(start_error(mixed), StartError::Keys { .. }));

        let mut unreadable = config(2);
        unreadable.keys.node_key_der = PrivateKeyDer::Pkcs8(vec![1, 2, 3].into());
        assert!(matches!(start_error(unreadable), StartError::Keys { .. }));

        let mut family = config(2);
        family.peers[0].1 = "[fd00::1]:6082".parse().unwrap();
        assert!(matches!(start_error(family), StartError::Family { .. }));

        let mut itself = config(2);
        itself.peers.push((NodeId(2), net.address(2)));
        assert!(matches!(start_error(itself), StartError::PeerIsSelf { .. }));

        let mut twice = config(2);
        twice.peers.push((NodeId(1), net.address(3)));
        assert!(matches!(start_error(twice), StartError::PeerTwice { .. }));

        // Nothing of all that holds the port.
        let (replicator, _) =
            Replicator::start(config(2), samepath_dataplane::clock::Clock::start()).unwrap();
        assert_eq!(replicator.local_address().unwrap(), net.address(2));
    });
}
