//! SSLsplit with TPROXY, which speaks with servers from its own address.

use std::fs;

use anyhow::Result;

use super::files::{self, Folder};
use super::held::Held;
use super::site::{Ends, Site};
use super::{Served, listens, squid};
use crate::bed::service_port;
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;

const PACKETS: &str = include_str!("../../../docs/services/sslsplit.nft");

/// See the module.
#[derive(Debug)]
pub struct Sslsplit;

impl Served for Sslsplit {
    fn name(&self) -> &'static str {
        "sslsplit"
    }

    fn title(&self) -> &'static str {
        "SSL proxy: SSLsplit, from its own address"
    }

    fn kind(&self) -> Option<Kind> {
        Some(Kind::Proxy)
    }

    fn ports(&self) -> &'static [u16] {
        &[443]
    }

    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>> {
        squid::Squid.start_servers(bed)
    }

    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>> {
        service_port::divert_to_local_sockets(space)?;
        space.nft(PACKETS)?;
        let folder = Folder::make(bed, number)?;
        let ca = files::proxies_ca(bed)?;
        fs::copy(&ca.certificate, folder.path("ca.crt"))?;
        fs::copy(&ca.key, folder.path("ca.key"))?;
        let mut sslsplit = space.command("sslsplit");
        sslsplit.arg("-k").arg(folder.path("ca.key")).arg("-c").arg(folder.path("ca.crt"));
        // One socket for both IP versions.
        sslsplit.args(["-u", "root", "ssl", "::", "8443", "tproxy"]);
        let mut service = bed.start_service(&format!("sslsplit{number}"), &mut sslsplit)?;
        listens::wait_for(space, &mut service, 8443, 1)?;
        Ok(vec![service])
    }

    fn transact(&self, site: &Site, ends: Ends, _turn: usize) -> Result<(), String> {
        squid::fetch_opened(site, ends)
    }

    fn hold(&self, site: &Site, ends: Ends, turn: usize) -> Result<Held> {
        squid::hold_opened(site, ends, turn)
    }
}
