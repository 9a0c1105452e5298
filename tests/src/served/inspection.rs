//! Stateful inspection: the kernel's connection tracking in a service's namespace, and samepath's own.

use anyhow::Result;

use super::held::Held;
use super::origin::{self, Files};
use super::site::{Ends, Site};
use super::{Served, haproxy};
use crate::bed::service_port;
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;

const PORTS: [u16; 2] = [80, 7010];

/// `nft` with `ct state established`.
#[derive(Debug)]
pub struct Nft;

/// No service: the nodes follow TCP themselves, strictly. Without samepath means here: each node by itself
/// (`--aggregation off`).
#[derive(Debug)]
pub struct OwnTracking;

impl Served for Nft {
    fn name(&self) -> &'static str {
        "nft"
    }

    fn title(&self) -> &'static str {
        "stateful inspection: nftables, `ct state established`"
    }

    fn kind(&self) -> Option<Kind> {
        Some(Kind::Inspector)
    }

    fn ports(&self) -> &'static [u16] {
        &PORTS
    }

    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>> {
        Ok(vec![origin::start(bed, &Files::new(), None)?, haproxy::echo(bed)?])
    }

    fn start(&self, _bed: &Bed, _number: u8, space: &Namespace) -> Result<Vec<Service>> {
        service_port::set_up_inspector(space)?;
        Ok(Vec::new())
    }

    fn transact(&self, site: &Site, ends: Ends, _turn: usize) -> Result<(), String> {
        origin::fetch_same(site, ends)
    }

    fn hold(&self, site: &Site, ends: Ends, _turn: usize) -> Result<Held> {
        Held::speaking(Held::connect(site, ends, haproxy::ECHO)?)
    }
}

impl Served for OwnTracking {
    fn name(&self) -> &'static str {
        "samepath"
    }

    fn title(&self) -> &'static str {
        "stateful inspection: samepath itself, strict TCP"
    }

    fn kind(&self) -> Option<Kind> {
        None
    }

    fn ports(&self) -> &'static [u16] {
        &PORTS
    }

    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>> {
        Nft.start_servers(bed)
    }

    fn start(&self, _bed: &Bed, _number: u8, _space: &Namespace) -> Result<Vec<Service>> {
        Ok(Vec::new())
    }

    fn transact(&self, site: &Site, ends: Ends, turn: usize) -> Result<(), String> {
        Nft.transact(site, ends, turn)
    }

    fn hold(&self, site: &Site, ends: Ends, turn: usize) -> Result<Held> {
        Nft.hold(site, ends, turn)
    }
}
