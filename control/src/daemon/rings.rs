//! Opening the rings: planned, tried, proven where they are without copies.
//!
//! Zero-copy is untested on hardware: no network card with such a driver was at hand. What can be tested
//! without one is: the decision below, and the probe itself in copy mode (`tests/tests/tuning.rs`).

use anyhow::bail;
use samepath_dataplane::xsk::{self, Opened, PROBE_FOR, PortPlan, Registration, SocketsPlan};

use crate::config::{Config, XdpMode};
use crate::nic::{self, Nic};

/// Opens all rings. Where the kernel bound without copying a frame is sent first; an interface whose frame
/// does not come back is opened again in copy mode, or refused under `--xdp-mode native-zerocopy`.
pub(super) fn open(config: &Config, nics: &[Nic]) -> anyhow::Result<Opened> {
    let mut plan = sockets_plan(config, nics);
    let busy_poll = config.tuning.busy_poll_usecs > 0;
    let mut opened = xsk::open(&plan)?;
    let names = match after_probe(config.xdp_mode, prove(&mut opened, nics)) {
        AfterProbe::Keep => return Ok(warned(opened, busy_poll)),
        AfterProbe::Refuse(silent) => bail!(
            "{} accepted zero-copy and sent nothing within a second: its driver does not do what it says; use --xdp-mode native or best-effort",
            names(nics, &silent)
        ),
        AfterProbe::Copy(silent) => {
            plan.ports.iter_mut().filter(|port| silent.contains(&port.port)).for_each(|port| {
                port.copy_only = true;
            });
            names(nics, &silent)
        }
    };
    // The kernel frees a queue only when the memory behind it is gone too.
    drop(opened);
    let mut opened = xsk::open(&plan)?;
    opened.warnings.push(format!(
        "{names} accepted zero-copy and sent nothing within a second: now in copy mode instead; look for a newer driver, or say --xdp-mode native-zerocopy to refuse"
    ));
    Ok(warned(opened, busy_poll))
}

fn warned(opened: Opened, busy_poll: bool) -> Opened {
    opened.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if busy_poll && !opened.registrations.iter().any(Registration::can_busy_poll) {
        tracing::warn!(
            "--busy-poll-usecs has no effect so far: the kernel names no device to poll (SO_INCOMING_NAPI_ID is 0); in copy mode it does so with the first packet, on veth never; `samepath status` says how it turned out"
        );
    }
    opened
}

/// Interfaces without copies whose frame did not come back. One without carrier cannot be tried.
fn prove(opened: &mut Opened, nics: &[Nic]) -> Vec<u8> {
    let zero_copy = |port| opened.registrations.iter().any(|one| one.port == port && one.zero_copy);
    let ports: Vec<(u8, [u8; 6])> =
        nics.iter().filter(|nic| nic.carrier && zero_copy(nic.port)).map(|nic| (nic.port, nic.mac)).collect();
    let mut silent = Vec::new();
    if !ports.is_empty() {
        for worker in &mut opened.workers {
            silent.extend(xsk::probe(worker, &ports, PROBE_FOR));
        }
    }
    silent.sort_unstable();
    silent.dedup();
    silent
}

/// What follows from the probe.
#[derive(PartialEq, Eq, Debug)]
enum AfterProbe {
    /// All frames came back.
    Keep,
    /// These interfaces are to be opened in copy mode.
    Copy(Vec<u8>),
    /// Without these interfaces in zero-copy the operator does not want to run.
    Refuse(Vec<u8>),
}

fn after_probe(mode: XdpMode, silent: Vec<u8>) -> AfterProbe {
    match mode {
        _ if silent.is_empty() => AfterProbe::Keep,
        XdpMode::NativeZerocopy => AfterProbe::Refuse(silent),
        XdpMode::BestEffort | XdpMode::Native | XdpMode::Generic => AfterProbe::Copy(silent),
    }
}

fn names(nics: &[Nic], ports: &[u8]) -> String {
    let named = nics.iter().filter(|nic| ports.contains(&nic.port)).map(|nic| nic.name.as_str());
    named.collect::<Vec<_>>().join(", ")
}

fn sockets_plan(config: &Config, nics: &[Nic]) -> SocketsPlan {
    let mtu = nics.iter().map(|nic| nic.mtu).max().unwrap_or(1500);
    let (frames, frame_size) = nic::packet_memory(config, nics.iter().map(|nic| nic.queues).sum(), mtu);
    SocketsPlan {
        ports: nics
            .iter()
            .map(|nic| PortPlan {
                port: nic.port,
                interface: nic.name.clone(),
                queues: nic.queues,
                copy_only: config.xdp_mode == XdpMode::Generic,
            })
            .collect(),
        workers: nic::workers(config, nics),
        ring_size: config.ring_size,
        frames,
        frame_size,
        zero_copy_only: config.xdp_mode == XdpMode::NativeZerocopy,
        huge_pages: config.tuning.huge_pages,
        options: config.tuning.socket_options(config.ring_size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_interface_is_copied_or_refused_as_the_operator_said() {
        use XdpMode::{BestEffort, Native, NativeZerocopy};
        for mode in XdpMode::ALL {
            assert_eq!(after_probe(mode, Vec::new()), AfterProbe::Keep);
        }
        assert_eq!(after_probe(BestEffort, vec![0, 2]), AfterProbe::Copy(vec![0, 2]));
        assert_eq!(after_probe(Native, vec![1]), AfterProbe::Copy(vec![1]));
        assert_eq!(after_probe(NativeZerocopy, vec![1]), AfterProbe::Refuse(vec![1]));
    }
}
