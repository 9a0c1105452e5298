//! The node's interfaces, as the kernel knows them at the start.

use anyhow::{Context, bail};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use samepath_bpf::PortRole;
use samepath_dataplane::limits::{MAX_PORTS, MAX_QUEUES, XDP_HEADROOM};
use samepath_dataplane::xsk::{self, Rss, RssSetting, receive_queues};

use crate::config::{Config, RssChoice, ServicePort};
use crate::routes::LinkState;

/// One interface samepath serves.
#[derive(Clone, Debug)]
pub struct Nic {
    /// Index within samepath: data interfaces in the order given, services, then the cluster link.
    pub port: u8,
    /// Name in the kernel.
    pub name: String,
    /// Zone, of a service its name; empty for the cluster link.
    pub zone: String,
    /// Zone number carried in the tunnel option: position of the zone's name among all, from 1.
    pub zone_number: u8,
    /// What it is for.
    pub role: PortRole,
    /// Index in the kernel.
    pub ifindex: u32,
    /// Receive queues.
    pub queues: u32,
    /// How the XDP program was attached.
    pub xdp_mode: String,
    /// Link address.
    pub mac: [u8; 6],
    /// IP MTU, bytes.
    pub mtu: u32,
    /// The other end is there.
    pub carrier: bool,
    /// Where it puts the two directions of a flow.
    pub rss: Rss,
    /// What was set before samepath made it symmetric.
    pub rss_before: Option<RssSetting>,
}

/// Finds the configured interfaces. Link addresses and MTUs are filled in by [`fill_links`].
pub fn find(config: &Config) -> anyhow::Result<Vec<Nic>> {
    let zones = config.zones();
    let number = |zone: &str| zones.iter().position(|one| one == zone).map_or(0, |at| at as u8 + 1);
    let mut nics = Vec::new();
    for data in &config.data {
        nics.push(find_one(nics.len(), &data.interface, &data.zone, number(&data.zone), PortRole::Data)?);
    }
    for service in &config.services {
        let ServicePort { interface, name, .. } = service;
        nics.push(find_one(nics.len(), interface, name, number(name), PortRole::Service)?);
    }
    nics.push(find_one(nics.len(), &config.cluster_link, "", 0, PortRole::ClusterLink)?);
    if nics.len() > MAX_PORTS {
        bail!(
            "{} interfaces are given, samepath serves at most {MAX_PORTS}: remove some --data or --service",
            nics.len()
        );
    }
    Ok(nics)
}

fn find_one(index: usize, name: &str, zone: &str, zone_number: u8, role: PortRole) -> anyhow::Result<Nic> {
    let unknown = || format!("interface {name} does not exist: `ip -br link` lists those there are");
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let ifindex = name_to_index(&any, name).with_context(unknown)?;
    let queues = receive_queues(name).with_context(unknown)?;
    if queues as usize > MAX_QUEUES {
        bail!(
            "{name} has {queues} receive queues, samepath serves at most {MAX_QUEUES}: run `ethtool -L {name} combined {MAX_QUEUES}`"
        );
    }
    Ok(Nic {
        port: index as u8,
        name: name.into(),
        zone: zone.into(),
        zone_number,
        role,
        ifindex,
        queues,
        xdp_mode: String::new(),
        mac: [0; 6],
        mtu: 1500,
        carrier: false,
        rss: Rss::Unknown,
        rss_before: None,
    })
}

/// Takes link addresses, MTUs and carrier from the kernel's links.
pub fn fill_links(nics: &mut [Nic], links: &[LinkState]) -> anyhow::Result<()> {
    for nic in nics {
        let link = links.iter().find(|link| link.ifindex == nic.ifindex);
        let link =
            link.with_context(|| format!("interface {} vanished while starting: start again", nic.name))?;
        nic.mac = link.mac;
        nic.mtu = link.mtu;
        nic.carrier = link.carrier;
    }
    Ok(())
}

/// Makes data interfaces with several queues symmetric where `--rss` says so and the driver can.
///
/// The cluster link needs none: the tunnel's source port names the flow inside, in both directions.
pub fn spread(config: &Config, nics: &mut [Nic]) {
    for nic in nics {
        if nic.queues > 1 && nic.role == PortRole::Data && config.tuning.rss == RssChoice::Symmetric {
            match xsk::symmetric_rss(&nic.name) {
                Ok(before) => nic.rss_before = before,
                Err(error) => tracing::warn!(
                    "{} puts the two directions of a flow into different queues, and its driver offers no other way ({error}): packets are handed from core to core, which costs more; say --rss keep to leave it at that",
                    nic.name
                ),
            }
            if nic.rss_before.is_some() {
                tracing::info!("{} was made symmetric: both directions of a flow use one queue", nic.name);
            }
        }
        nic.rss = xsk::rss(&nic.name);
    }
}

/// Takes back what [`spread`] changed.
pub fn spread_as_before(nics: &[Nic]) {
    for nic in nics {
        if let Some(before) = &nic.rss_before
            && let Err(error) = xsk::restore_rss(&nic.name, before)
        {
            tracing::warn!("{} stays symmetric: {error}", nic.name);
        }
    }
}

/// Frames of packet memory and the size of one, bytes, for `queues` receive queues in all and a largest MTU of
/// `mtu`. A frame has room for the largest data packet with two VLAN tags and the larger tunnel header.
pub fn packet_memory(config: &Config, queues: u32, mtu: u32) -> (u32, u32) {
    let frame_size = if mtu + FRAME_OVERHEAD <= 2048 { 2048 } else { LARGEST_FRAME };
    // Every receive and transmit ring full, and half as much again in hand.
    (config.frames.unwrap_or(queues * config.ring_size * 5 / 2), frame_size)
}

/// Bytes of a frame that the IP packet cannot have: Ethernet with two tags, the tunnel, the kernel's room.
pub const FRAME_OVERHEAD: u32 = 14 + 8 + 110 + XDP_HEADROOM;

/// Bytes of the largest frame: a frame may not cross a page.
pub const LARGEST_FRAME: u32 = 4096;

/// How many workers there are on these interfaces.
pub fn workers(config: &Config, nics: &[Nic]) -> usize {
    workers_for(config, nics.iter().map(|nic| nic.queues).max().unwrap_or(1))
}

/// How many workers `--workers auto` means: one per queue of the interface with most (`queues`), at most one per
/// core.
pub fn workers_for(config: &Config, queues: u32) -> usize {
    match config.workers {
        crate::config::Workers::Count(count) => count,
        crate::config::Workers::Auto => {
            let cores = if config.cores.is_empty() {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            } else {
                config.cores.len()
            };
            (queues as usize).min(cores).max(1)
        }
    }
}
