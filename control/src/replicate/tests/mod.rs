//! Scenarios of replication, and what they share.

mod gate;
mod link;
mod loopback;
mod nodes;
mod refused;
mod relay;
mod renewed;
mod simulation;
mod versions;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::flow::{FlowKey, Generation, NodeId, proto};
use samepath_dataplane::session::State;
use samepath_dataplane::wire::record::Record;

use super::hello::{Identity, Versions};

/// Session number `flow` in its `version`, owned by node 1.
pub fn record(flow: u16, version: u32) -> Record {
    let ends = ([1; 16], flow);
    let (key, origin) = FlowKey::new(ends, ([2; 16], 80), proto::TCP, (0, 0));
    Record {
        remove: false,
        key,
        owner: NodeId(1),
        generation: Generation(1),
        version,
        state: State::TcpEstablished,
        origin,
        tcp: Default::default(),
        age_s: 3,
        timeout_s: 60,
        admitted: 0,
        service: 0,
        policy: 0,
    }
}

/// Node `node` of cluster 7, with boot id 0xb000 + node.
pub fn identity(node: u16) -> Identity {
    Identity {
        node: NodeId(node),
        cluster: 7,
        director_hash: DirectorHash::IpPair,
        fingerprint: 0xf19e,
        boot_id: 0xb000 + u64::from(node),
        started: NowMs(1000),
        versions: Versions::SPOKEN,
    }
}
