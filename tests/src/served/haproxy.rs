//! HAProxy in TCP mode with TPROXY and the client's address as source.

use anyhow::Result;

use super::Served;
use super::origin::{self, Files};
use super::site::{Ends, Site};
use crate::bed::service_port::{self, HAPROXY_PORTS};
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;

/// See the module.
#[derive(Debug)]
pub struct Haproxy;

impl Served for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn title(&self) -> &'static str {
        "TCP proxy: HAProxy, the client's address kept"
    }

    fn kind(&self) -> Option<Kind> {
        Some(Kind::Proxy)
    }

    fn ports(&self) -> &'static [u16] {
        &HAPROXY_PORTS
    }

    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>> {
        Ok(vec![origin::start(bed, &Files::new(), None)?])
    }

    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>> {
        service_port::set_up_haproxy(space)?;
        Ok(vec![bed.start_haproxy(number, space)?])
    }

    fn transact(&self, site: &Site, ends: Ends, _turn: usize) -> Result<(), String> {
        origin::fetch_same(site, ends)
    }
}
