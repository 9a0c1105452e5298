//! Sessions, packets and settings for the tests of this room.

use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey, Generation, NodeId, key_bytes, proto};
use crate::session::record::{Role, Session, State};
use crate::session::tcp::TcpTracking;
use crate::session::timeouts::Timeouts;
use crate::session::track::Begun;
use crate::settings::{Settings, TcpPickup};
use crate::wire::layout::Layout;
use crate::wire::packet::{L4, Packet};

/// Settings with the default timeouts.
pub fn settings() -> Settings {
    Settings {
        node: NodeId(1),
        cluster: 1,
        aggregation: true,
        tcp_pickup: TcpPickup::Strict,
        tcp_loose_window: false,
        timeouts: Timeouts::default(),
        backup: Default::default(),
        former_directors_ms: 10_000,
        refresh_ms: 0,
    }
}

/// Flow number `n`: 10.0.0.1 port `n` to 10.0.0.2 port 80, made in a way that `n` may exceed a port.
pub fn key(protocol: u8, n: u32) -> FlowKey {
    let client = std::net::IpAddr::from([10, 0, (n >> 24) as u8, (n >> 16) as u8]);
    let server = std::net::IpAddr::from([10, 255, 0, 2]);
    FlowKey::new((key_bytes(client), n as u16), (key_bytes(server), 80), protocol, (0, 0)).0
}

/// A packet of flow 1.
pub fn packet(protocol: u8, direction: Direction, l4: L4) -> Packet {
    Packet {
        key: key(protocol, 1),
        direction,
        layout: Layout::from_metadata(&[0; 24]),
        ttl: 64,
        length: 60,
        l4,
        fragment: None,
        ports: None,
        told: Default::default(),
    }
}

/// The session that `begun` begins.
pub fn session(key: FlowKey, begun: &Begun) -> Session {
    Session {
        key,
        role: Role::Owner,
        state: begun.state,
        origin: begun.origin,
        dirty: false,
        owner: NodeId(1),
        mark: 0,
        admission: Default::default(),
        generation: Generation(1),
        version: 0,
        tcp: begun.tcp,
        created: NowMs(1000),
        expires: NowMs(1000 + u64::from(begun.timeout_ms)),
        timeout_ms: begun.timeout_ms,
        packets: 0,
        bytes: 0,
    }
}

/// A session in some role and state.
pub fn session_in(n: u32, role: Role, state: State) -> Session {
    let begun = Begun { state, tcp: TcpTracking::default(), timeout_ms: 1000, origin: Direction::LoToHi };
    Session { role, ..session(key(proto::UDP, n), &begun) }
}
