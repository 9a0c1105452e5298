//! Forwarding inside XDP, without sessions: what the machine can do at best.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags};

use crate::rig::{INGRESS, NEXT_HOP_MAC, REDIRECTED, Rig};

/// Generated from `forward.bpf.c` by libbpf-cargo.
#[allow(missing_docs, unused_imports, dead_code, unsafe_code, clippy::all)]
pub(super) mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/forward.skel.rs"));
}

/// The attached program.
#[derive(Debug)]
pub(super) struct Redirect {
    _link: Link,
}

impl Redirect {
    pub(super) fn start(rig: &Rig) -> Result<Self> {
        let ingress = rig.interface(INGRESS);
        let (from, own_mac) = (ingress.index()?, ingress.mac()?);
        let to = rig.interface(REDIRECTED).index()?;
        rig.device.enter(|| {
            let mut storage = MaybeUninit::uninit();
            let mut open = skeleton::ForwardSkelBuilder::default().open(&mut storage)?;
            let fixed = open.maps.rodata_data.as_deref_mut().context("the program has no settings")?;
            fixed.next_hop_mac = NEXT_HOP_MAC;
            fixed.own_mac = own_mac;
            let program = open.load()?;
            program.maps.device.update(&0u32.to_ne_bytes(), &to.to_ne_bytes(), MapFlags::ANY)?;
            // The link holds the program, and the program its maps.
            Ok(Self { _link: program.progs.to_device.attach_xdp(from as i32)? })
        })
    }
}
