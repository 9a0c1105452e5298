//! Tunnel decapsulation: any outer frame, and true ones of which one bit or the end is missing.

use std::net::IpAddr;
use std::sync::OnceLock;

use samepath_dataplane::flow::{Direction, FlowKey};
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::tunnel::{self, TunnelKey};
use samepath_dataplane::wire::{Layout, Packet};

use super::worker::tunnel_key;
use super::{Bytes, seeds};
use crate::lab::ports;

fn key() -> &'static TunnelKey {
    static KEY: OnceLock<TunnelKey> = OnceLock::new();
    KEY.get_or_init(|| tunnel_key().key)
}

/// The first byte says whether the frame stands in the input or is a true one, changed as the input says.
pub fn tunnel(input: &[u8]) {
    let mut bytes = Bytes(input);
    if bytes.byte().is_multiple_of(2) {
        let inner_off = usize::from(bytes.short());
        let overhead = tunnel::overhead(&ports::link_address(1));
        decapsulate(bytes.0, if inner_off == 0 { overhead } else { inner_off });
        return;
    }
    static TRUE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let all = TRUE.get_or_init(seeds::tunnel_packets);
    let whole = &all[usize::from(bytes.byte()) % all.len()];
    let overhead = tunnel::overhead(&ports::link_address(1));
    assert!(decapsulate(whole, overhead), "a true packet is taken");
    let at = usize::from(bytes.short()) % whole.len();
    let mut changed = whole.clone();
    changed[at] ^= bytes.byte();
    changed.truncate(whole.len().saturating_sub(usize::from(bytes.byte())));
    decapsulate(&changed, overhead);
    decapsulate(&changed, usize::from(bytes.short()));
}

/// As a worker does; true if the packet carries the cluster's tag.
fn decapsulate(frame: &[u8], inner_off: usize) -> bool {
    let received = tunnel::parse(frame, inner_off);
    let Some(inner) = frame.get(inner_off..) else {
        assert!(received.is_err(), "headers that end behind the frame");
        return false;
    };
    let layout = Layout::parse_inner(inner, inner_off as u16, ports::LINK, &FlowHasher::new(7));
    let (Ok(received), Ok(layout)) = (received, layout) else { return false };
    if layout.is_hello() {
        return received.verify(key(), &FlowKey::default(), Direction::LoToHi);
    }
    let Ok(packet) = Packet::read(inner, layout) else { return false };
    let source: Option<IpAddr> = samepath_dataplane::wire::addresses::tunnel_source(frame);
    assert!(source.is_some(), "a tunnel packet has an outer source address");
    received.verify(key(), &packet.key, packet.direction)
}
