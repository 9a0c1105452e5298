//! What the end-to-end tests make happen, in one place because every queue and worker count must
//! stand all of it.

pub mod etcd;
pub mod failover;
pub mod flood;
pub mod iperf;
pub mod kept;
mod keys;
pub mod long_flow;
pub mod path_mtu;
pub mod simultaneous;
pub mod split_flow;
pub mod steady;
pub mod strict;
pub mod why;

use anyhow::Result;

use crate::bed::Bed;

/// First port of hand-made flows; none of the hosts' own sockets uses these.
pub const HAND_MADE_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// Both routers drop hand-made flows from now on, after they were captured: the hosts never see them
/// and answer nothing, so the nodes see only what a test sends.
pub fn keep_from_hosts(bed: &Bed) -> Result<()> {
    let (first, last) = (HAND_MADE_PORTS.start(), HAND_MADE_PORTS.end());
    for router in [bed.router_a(), bed.router_b()] {
        router.nft(&format!(
            "table inet handmade {{
                chain in {{
                    type filter hook prerouting priority raw;
                    meta l4proto {{ tcp, udp }} th dport {first}-{last} drop
                    meta l4proto {{ tcp, udp }} th sport {first}-{last} drop
                }}
            }}"
        ))?;
    }
    Ok(())
}
