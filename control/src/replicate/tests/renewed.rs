//! Keys that change while nodes talk.

use super::nodes::{Ca, Net, Node, on_one_thread, until};
use crate::replicate::NodeKeys;

fn trusting(mut keys: NodeKeys, others: &[&Ca]) -> NodeKeys {
    keys.cas.extend(others.iter().flat_map(|ca| ca.keys(9).cas));
    keys
}

/// Whether what `a` says next arrives over a connection made after the keys changed.
async fn goes_on(a: &mut Node, b: &mut Node, flow: u16) {
    a.put(flow, 1);
    b.put(flow, 1);
    until(&format!("flow {flow} arrives at both"), &mut [a, b], |[a, b]| {
        b.backups_of(1) == a.owned && a.backups_of(2) == b.owned && a.stats(2).whole && b.stats(1).whole
    })
    .await;
}

#[test]
fn from_one_ca_to_the_next_nothing_is_lost_and_the_old_one_is_not_believed_any_more() {
    on_one_thread(async {
        let (net, old, new) = (Net::new(), Ca::new("old"), Ca::new("new"));
        let mut a = Node::start(net.config(&old, 1, &[1, 2, 3]));
        let mut b = Node::start(net.config(&old, 2, &[1, 2, 3]));
        goes_on(&mut a, &mut b, 1).await;
        let steps: [fn(&Ca, &Ca, u16) -> NodeKeys; 3] = [
            |old, new, node| trusting(old.keys(node), &[new]),
            |old, new, node| trusting(new.keys(node), &[old]),
            |_, new, node| new.keys(node),
        ];
        let mut flow = 1;
        for step in steps {
            for (node, number) in [(&a, 1), (&b, 2)] {
                node.replicator.renew_keys(&step(&old, &new, number)).unwrap();
                flow += 1;
            }
            goes_on(&mut a, &mut b, flow).await;
        }
        for node in [&a, &b] {
            assert!(node.refusals().is_empty(), "{:?}", node.refusals());
        }
        assert_eq!((a.stats(2).bulk_syncs, b.stats(1).bulk_syncs), (1, 1), "what was acknowledged stayed so");

        let mut late = Node::start(net.config(&old, 3, &[1, 2, 3]));
        until("the old CA's node is refused by both", &mut [&mut a, &mut b, &mut late], |[a, b, _]| {
            [a, b]
                .iter()
                .all(|node| format!("{:?}", node.refusals()).contains("not signed by this cluster's CA"))
        })
        .await;
    });
}

#[test]
fn keys_of_another_node_are_refused_and_nothing_changes() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let mut b = Node::start(net.config(&ca, 2, &[1, 2]));
        goes_on(&mut a, &mut b, 1).await;
        let error = a.replicator.renew_keys(&ca.keys(2)).unwrap_err().to_string();
        assert!(error.contains("the keys belong to node 2"), "{error}");
        goes_on(&mut a, &mut b, 2).await;
    });
}
