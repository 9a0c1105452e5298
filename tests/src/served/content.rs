//! Content security: Squid has every answer looked at by c-icap with ClamAV.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::files::{self, Folder};
use super::held::Held;
use super::origin::{self, Tls};
use super::site::{Ends, Site};
use super::{Served, listens, squid};
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;
use crate::wait;

const ICAP: &str = include_str!("../../../docs/services/c-icap.conf");
const CLAMD: &str = include_str!("../../../docs/services/clamd.conf");
const ASKED: &str = include_str!("../../../docs/services/squid-icap.conf");

/// The test file of EICAR, in two halves: whole it would make virus scanners of others stop at this source.
const EICAR: [&str; 2] = [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STAND", r"ARD-ANTIVIRUS-TEST-FILE!$H+H*"];

/// See the module.
#[derive(Debug)]
pub struct Content;

impl Served for Content {
    fn name(&self) -> &'static str {
        "content"
    }

    fn title(&self) -> &'static str {
        "content security: Squid, c-icap, ClamAV; every second file is EICAR's, every second transaction TLS"
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
        let eicar = vec![("eicar.com", EICAR.concat().into_bytes())];
        Ok(vec![origin::start(bed, &eicar, Some(tls))?])
    }

    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>> {
        let folder = Folder::make(bed, number)?;
        let clamd = start_clamd(bed, number, space, &folder)?;
        let mut c_icap = space.command("c-icap");
        c_icap.args(["-N", "-f"]).arg(folder.configure("c-icap.conf", ICAP)?);
        let mut c_icap = bed.start_service(&format!("c-icap{number}"), &mut c_icap)?;
        listens::wait_for(space, &mut c_icap, 1344, 1)?;
        Ok(vec![clamd, c_icap, squid::start(bed, number, space, ASKED)?])
    }

    fn transact(&self, site: &Site, ends: Ends, turn: usize) -> Result<(), String> {
        let scheme = if (turn / 2).is_multiple_of(2) { "http" } else { "https" };
        let ca = files::proxies_ca(&site.bed).map_err(|error| error.to_string())?;
        let trusted = ["--cacert", &ca.certificate.display().to_string()];
        if (turn / 4).is_multiple_of(2) {
            let got = origin::get(site, ends, scheme, "same.bin", &[&["-f"], &trusted[..]].concat())?;
            return origin::same(site, "same.bin", &got);
        }
        let got = origin::get(site, ends, scheme, "eicar.com", &trusted)?;
        let page = String::from_utf8_lossy(&got);
        match page.contains(EICAR[1]) {
            true => Err(String::from("the EICAR test file came through")),
            false if page.contains("VIRUS FOUND") => Ok(()),
            false => Err(String::from("neither the file nor word of a virus")),
        }
    }

    /// What is looked at before the client gets it cannot come slowly: so one that has its answer and stays open.
    fn hold(&self, site: &Site, ends: Ends, _turn: usize) -> Result<Held> {
        let request = format!("GET /same.bin HTTP/1.1\r\nHost: {}\r\n\r\n", ends.server_name());
        Held::silent(Held::connect(site, ends, 80)?, &request, "HTTP/1.1 200")
    }
}

/// ClamAV's daemon with one signature, that of the EICAR test file.
fn start_clamd(bed: &Bed, number: u8, space: &Namespace, folder: &Folder) -> Result<Service> {
    let signatures = folder.path("signatures");
    fs::create_dir_all(&signatures)?;
    let bytes: String = EICAR.concat().bytes().map(|byte| format!("{byte:02x}")).collect();
    fs::write(signatures.join("eicar.ndb"), format!("Eicar-Test-File:0:0:{bytes}\n"))?;
    let mut clamd = space.command("clamd");
    clamd.arg("-c").arg(folder.configure("clamd.conf", CLAMD)?);
    let mut clamd = bed.start_service(&format!("clamd{number}"), &mut clamd)?;
    wait_for_socket(&mut clamd, &folder.path("clamd.socket"))?;
    Ok(clamd)
}

fn wait_for_socket(clamd: &mut Service, socket: &Path) -> Result<()> {
    wait::until_true("clamd listens", Duration::from_secs(60), || {
        if clamd.ended()?.is_some() {
            bail!("clamd ended: {} {}", clamd.log_tail(), clamd.output());
        }
        Ok(socket.exists())
    })
}
