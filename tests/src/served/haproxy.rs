//! HAProxy in TCP mode with TPROXY and the client's address as source.

use anyhow::Result;

use super::Served;
use super::held::Held;
use super::origin::{self, Files};
use super::site::{self, Ends, Site};
use crate::bed::service_port::{self, HAPROXY_PORTS};
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;
use crate::scenario::kept::start_server;

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
        Ok(vec![origin::start(bed, &Files::new(), None)?, echo(bed)?])
    }

    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>> {
        service_port::set_up_haproxy(space)?;
        Ok(vec![bed.start_haproxy(number, space)?])
    }

    fn transact(&self, site: &Site, ends: Ends, _turn: usize) -> Result<(), String> {
        origin::fetch_same(site, ends)
    }

    /// Half of them silent, in both IP versions.
    fn hold(&self, site: &Site, ends: Ends, turn: usize) -> Result<Held> {
        let stream = Held::connect(site, ends, ECHO)?;
        if turn / 2 % 2 == 1 { Held::silent(stream, "hello", "hello") } else { Held::speaking(stream) }
    }
}

/// Port of the echo.
pub const ECHO: u16 = 7010;

/// Starts what sends back what comes, on all of the server's addresses that are asked.
pub fn echo(bed: &Bed) -> Result<Service> {
    let addresses: Vec<_> = site::servers().map(|ends| ends.to).collect();
    start_server(bed, "echo", ECHO, &addresses)
}
