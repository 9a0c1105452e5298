//! A cluster link that is an ifb and yet leads somewhere.
//!
//! What the device's rings send into an ifb is freed on the device's core: a sink that costs every device
//! the same. Other nodes must be heard on it all the same, and the kernel's own packets must leave. So
//! packets that arrive on a veth beside it are handed to the ifb as if received there, and what the
//! kernel (not a ring) sends into the ifb is handed to the veth.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHookBuilder};

use super::{CLUSTER, Rig};

/// Generated from `relay.bpf.c` by libbpf-cargo.
#[allow(missing_docs, unused_imports, dead_code, unsafe_code, clippy::all)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/relay.skel.rs"));
}

/// The veth beside the ifb, in the device's namespace.
pub(super) const SIDE: &str = "sbside";

/// `BPF_F_INGRESS`.
const TO_INGRESS: u64 = 1;

/// Joins [`CLUSTER`], an ifb, with [`SIDE`].
pub(super) fn join(rig: &Rig) -> Result<()> {
    let (link, side) = (rig.interface(CLUSTER).index()?, rig.interface(SIDE).index()?);
    rig.device.enter(|| {
        hand_over((side, TC_INGRESS), (link, TO_INGRESS))?;
        hand_over((link, TC_EGRESS), (side, 0))
    })
}

/// The filter keeps the program when its descriptor is closed; it goes with the interface.
fn hand_over((from, at): (u32, TcAttachPoint), (to, flags): (u32, u64)) -> Result<()> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skeleton::RelaySkelBuilder::default().open(&mut storage)?;
    let fixed = open.maps.rodata_data.as_deref_mut().context("the program has no settings")?;
    fixed.to = to;
    fixed.flags = flags;
    let program = open.load()?;
    let mut hook = TcHookBuilder::new(program.progs.relay.as_fd());
    hook.ifindex(from as i32).replace(true).handle(1).priority(1);
    hook.hook(at).create()?.attach()?;
    Ok(())
}
