//! Squid that opens TLS (ssl-bump) with TPROXY and the client's address as source.

use std::fs;

use anyhow::Result;

use super::files::{self, Folder};
use super::held::Held;
use super::origin::{self, Files, Tls};
use super::site::{Ends, Site};
use super::{Served, listens};
use crate::bed::service_port;
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;
use crate::program;

const CONFIGURATION: &str = include_str!("../../../docs/services/squid.conf");
const PACKETS: &str = include_str!("../../../docs/services/squid.nft");

/// See the module.
#[derive(Debug)]
pub struct Squid;

impl Served for Squid {
    fn name(&self) -> &'static str {
        "squid"
    }

    fn title(&self) -> &'static str {
        "SSL proxy: Squid with ssl-bump, the client's address kept"
    }

    fn kind(&self) -> Option<Kind> {
        Some(Kind::Proxy)
    }

    fn ports(&self) -> &'static [u16] {
        &[80, 443]
    }

    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>> {
        let pair = files::of_server(bed)?;
        let tls = Tls { certificate: &pair.certificate, key: &pair.key };
        Ok(vec![origin::start(bed, &Files::new(), Some(tls))?])
    }

    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>> {
        Ok(vec![start(bed, number, space, "")?])
    }

    fn transact(&self, site: &Site, ends: Ends, _turn: usize) -> Result<(), String> {
        fetch_opened(site, ends)
    }

    fn hold(&self, site: &Site, ends: Ends, turn: usize) -> Result<Held> {
        hold_opened(site, ends, turn)
    }
}

/// Starts Squid with these lines more in its configuration.
pub fn start(bed: &Bed, number: u8, space: &Namespace, more: &str) -> Result<Service> {
    service_port::divert_to_local_sockets(space)?;
    space.nft(PACKETS)?;
    let folder = Folder::make(bed, number)?;
    files::proxies_ca(bed)?.joined(&folder.path("ca.pem"))?;
    fs::copy(files::of_server(bed)?.certificate, folder.path("servers.crt"))?;
    let hosts = folder.path("hosts");
    fs::write(&hosts, files::hosts())?;
    let names = format!("\nhosts_file {}\n", hosts.display());
    let config = folder.configure("squid.conf", &format!("{CONFIGURATION}{more}{names}"))?;
    let mut make = space.command("/usr/lib/squid/security_file_certgen");
    program::run(make.args(["-c", "-s"]).arg(folder.path("certificates")).args(["-M", "4MB"]))?;
    folder.give_to("proxy")?;
    program::run(space.command("chown").args(["-R", "proxy:proxy"]).arg(folder.path("certificates")))?;
    let mut squid = space.command("squid");
    // The name keeps shared memory of several apart.
    squid.args(["-N", "-n", &format!("sp{}n{number}", std::process::id())]).arg("-f").arg(config);
    let mut service = bed.start_service(&format!("squid{number}"), &mut squid)?;
    listens::wait_for(space, &mut service, 3130, 1)?;
    Ok(service)
}

/// Gets a file over HTTPS. The certificate must be the proxy's: so the proxy has read what passed.
pub fn fetch_opened(site: &Site, ends: Ends) -> Result<(), String> {
    let ca = files::proxies_ca(&site.bed).map_err(|error| error.to_string())?;
    let ca = ca.certificate.display().to_string();
    let got = origin::get(site, ends, "https", "same.bin", &["-f", "--cacert", &ca])?;
    origin::same(site, "same.bin", &got)
}

/// A file that comes slowly over HTTPS, as [`fetch_opened`].
pub fn hold_opened(site: &Site, ends: Ends, turn: usize) -> Result<Held> {
    let ca = files::proxies_ca(&site.bed)?.certificate.display().to_string();
    origin::hold(site, ends, turn, &["--cacert", &ca])
}
