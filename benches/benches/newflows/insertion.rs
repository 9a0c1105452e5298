//! New sessions per second of one core: every packet belongs to a new flow.

use std::collections::BTreeMap;

use anyhow::Result;
use samepath_benches::device::{Device, Peer};
use samepath_benches::generator::{Kind, Pace, Stream};
use samepath_benches::measure::{self, Load, Window};
use samepath_benches::rig::{Entrance, Links, Rig};
use serde_json::json;

use crate::Bench;

/// Sessions a device has room for: more than a window can bring.
const ROOM: u64 = 1_600_000;

/// Windows per device and repetition.
const WINDOWS: u32 = 8;

/// More than this share of the packets without a session: the rings were flooded, and that costs as well.
const FLOODED: f64 = 0.13;

/// Less than this: more could be begun.
const ALL: f64 = 0.03;

/// A core this busy is full.
const FULL: f64 = 0.96;

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
            // Of a core that does nothing else: the other one, with all other nodes, may be full before this one.
            bench.note(&figure, 1e9 / window.ns_per_packet);
            bench.note(&figure.replace("insert_per_s", "insert_ns"), window.ns_per_packet);
            let entry = json!({"part": "insertion", "peer": peer.name(), "packets": name,
                "repetition": repetition, "window": window});
            bench.report.measurement(entry)?;
        }
    }
    Ok(())
}

/// The window with the most new sessions per second, undisturbed if there is one; each begins with an empty table.
fn peak(peer: Peer, kind: Kind, rate: &mut f64) -> Result<Window> {
    let mut best: Option<Window> = None;
    for _ in 0..WINDOWS {
        let rig = Rig::new("newflows", Links::Native)?;
        let device = Device::start(&rig, peer, ROOM)?;
        let stream = Stream { pace: Pace::Idling, ..Stream::fresh(kind, 0, &rig.into_ingress()?) };
        let load = Load { stream, entrance: Entrance::Ingress, rate: *rate, warm_up: 0.3, window: 1.0 };
        let seen = measure::measure(&rig, &device, &load)?;
        device.stop(&rig)?;
        if best.as_ref().is_none_or(|best| is_better(&seen, best)) {
            best = Some(seen.clone());
        }
        match next(&seen, *rate) {
            Some(next) => *rate = next,
            None => break,
        }
    }
    Ok(best.expect("at least one window was measured"))
}

/// Also a flooded one: where answers of other nodes are waited for, full rings cost less than bursts of few packets.
fn is_better(seen: &Window, best: &Window) -> bool {
    (best.is_disturbed(), seen.forwarded) > (seen.is_disturbed(), best.forwarded)
}

/// The next rate to try; none if this one is right, or the generator's core is full.
fn next(seen: &Window, rate: f64) -> Option<f64> {
    if seen.is_disturbed() {
        return Some(rate);
    }
    if seen.lost > FLOODED {
        return Some(seen.forwarded * if seen.lost > 0.3 { 1.25 } else { 1.04 });
    }
    let could_do_more = seen.lost < ALL && seen.device_core < FULL && seen.offered > rate * 0.9;
    could_do_more.then_some(rate * 1.15)
}
