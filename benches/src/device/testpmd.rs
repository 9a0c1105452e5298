//! dpdk-testpmd in io mode over DPDK's af_xdp driver (Debian's `dpdk`).

use std::time::Duration;

use anyhow::Result;
use samepath_tests::bed::Service;
use samepath_tests::wait;

use crate::rig::{EGRESS, INGRESS, Rig};

const READY: &str = "Port statistics";

/// `testpmd.bpf.c`, compiled.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/testpmd.bpf.o"));

/// Starts it in the device's namespace and waits until it forwards. Its main thread
/// prints a few lines per second.
pub(super) fn start(rig: &Rig) -> Result<Service> {
    let file = rig.runtime().join("testpmd.bpf.o");
    std::fs::write(&file, PROGRAM)?;
    // Busy polling does nothing on a veth but costs a call per burst.
    let port = |number: u8, interface: &str| {
        format!("--vdev=net_af_xdp{number},iface={interface},busy_budget=0,xdp_prog={}", file.display())
    };
    let mut command = rig.device.command("dpdk-testpmd");
    command
        .args(["-m", "512", "--in-memory", "--no-pci", "-l", "0,1"])
        .args([port(0, INGRESS), port(1, EGRESS), "--".into()])
        .args(["--forward-mode=io", "--auto-start", "--nb-cores=1", "--total-num-mbufs=32768"])
        .args(["--rxd=2048", "--txd=2048", "--burst=64"])
        // Otherwise it ends when its standard input does.
        .arg("--stats-period=1");
    let service = Service::start(rig.prefix(), rig.logs(), "testpmd", &mut command)?;
    wait::until_true("testpmd forwards", Duration::from_secs(15), || Ok(service.output().contains(READY)))
        .map_err(|error| error.context(service.log_tail()))?;
    Ok(service)
}
