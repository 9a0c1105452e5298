//! New sessions per second of one full core: every packet belongs to a new flow.

use std::collections::BTreeMap;

use anyhow::Result;
use samepath_benches::device::{Device, Peer};
use samepath_benches::generator::{Kind, Stream};
use samepath_benches::measure::{self, Load, Window, is_full, next_rate};
use samepath_benches::rig::{Links, Rig};
use serde_json::json;

use crate::Bench;

/// Sessions a device has room for: more than a window can bring.
const ROOM: u64 = 1_600_000;

/// Windows per device and repetition.
const WINDOWS: u32 = 4;

/// Where each device's search ended, packets per second.
#[derive(Debug, Default)]
pub struct Rates(BTreeMap<String, f64>);

/// Every device with every kind of first packet, one after the other.
pub fn measure(bench: &mut Bench, rates: &mut Rates, repetition: u32) -> Result<()> {
    for (kind, name) in [(Kind::Udp, "udp"), (Kind::TcpSyn, "tcp_syn")] {
        for peer in [Peer::SamepathAlone, Peer::Samepath, Peer::Conntrack] {
            let figure = format!("insert_per_s/{peer}/{name}");
            let window = peak(peer, kind, rates.0.entry(figure.clone()).or_insert(600_000.0))?;
            println!(
                "{peer:<16} {name:<8} {:.3} M new sessions/s of {:.3} offered, {:.0} ns each, core {:.0} %  ({})",
                window.forwarded / 1e6,
                window.offered / 1e6,
                window.ns_per_packet,
                window.device_core * 100.0,
                window.thread_shares()
            );
            bench.note(&figure, window.forwarded);
            bench.note(&figure.replace("insert_per_s", "insert_ns"), window.ns_per_packet);
            let entry = json!({"part": "insertion", "peer": peer.name(), "packets": name,
                "repetition": repetition, "window": window});
            bench.report.measurement(entry)?;
        }
    }
    Ok(())
}

/// The most new sessions per second; each window begins with an empty table.
fn peak(peer: Peer, kind: Kind, rate: &mut f64) -> Result<Window> {
    let mut best: Option<Window> = None;
    for _ in 0..WINDOWS {
        let rig = Rig::new("newflows", Links::Native)?;
        let device = Device::start(&rig, peer, ROOM)?;
        let stream = Stream::fresh(kind, 0, &rig.into_ingress()?);
        let load = Load { stream, rate: *rate, warm_up: 0.3, window: 1.0 };
        let seen = measure::measure(&rig, &device, &load)?;
        device.stop(&rig)?;
        if best.as_ref().is_none_or(|best| seen.forwarded > best.forwarded && !seen.is_spoiled()) {
            best = Some(seen.clone());
        }
        match next_rate(&seen, *rate) {
            Some(next) if !is_full(&seen, 1.0) => *rate = next,
            _ => break,
        }
    }
    Ok(best.expect("at least one window was measured"))
}
