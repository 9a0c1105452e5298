//! What can be checked on this machine before anything is attached: interfaces, address, cores, keys.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use samepath_dataplane::tuning::Idle;

use super::{Config, ConfigError, Sched};
use crate::keys::ClusterKeys;
use crate::policy::PolicyFile;

/// An interface as the kernel lists it.
struct Interface {
    index: u32,
    up: bool,
    mtu: u32,
    addresses: Vec<IpAddr>,
}

/// Bytes of the cluster link's MTU that the tunnel takes: the outer Ethernet header is not in an MTU, the inner
/// one is.
pub fn tunnel_overhead(cluster_address: IpAddr) -> u32 {
    if cluster_address.is_ipv6() { 110 } else { 90 }
}

/// Checks a valid configuration against this machine and gives what deserves a look.
///
/// Errors: an interface or core that is not there, the cluster address on another interface, keys that do
/// not load; the first problem, as a sentence with its remedy.
pub fn verify_host(config: &Config) -> Result<Vec<String>, ConfigError> {
    let interfaces = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(interfaces()).map_err(|error| error.to_string()))
        .map_err(|error| {
            ConfigError(format!(
                "the kernel's interfaces cannot be listed ({error}): samepath needs netlink; run it where sockets of family AF_NETLINK are allowed"
            ))
        })?;
    let mut warnings = config.warnings.clone();
    verify_interfaces(config, &interfaces, &mut warnings)?;
    verify_cores(config, &mut warnings)?;
    verify_scheduling(config)?;
    verify_policy(config)?;
    ClusterKeys::load(&config.keys, config.node)
        .map_err(|error| ConfigError(format!("--keys {}: {error}", config.keys.display())))?;
    Ok(warnings)
}

fn verify_policy(config: &Config) -> Result<(), ConfigError> {
    let Some(path) = &config.policy else { return Ok(()) };
    let (zones, services) = (config.zones(), config.service_names());
    let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let read = PolicyFile::read(path, Some(&zones), Some(&services));
    read.map(drop).map_err(|error| ConfigError(format!("--policy: {error}")))
}

fn verify_interfaces(
    config: &Config,
    interfaces: &BTreeMap<String, Interface>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut largest_data_mtu = 0;
    let data = config
        .data
        .iter()
        .map(|data| (format!("--data {}={}", data.zone, data.interface), data.interface.as_str()));
    let link = (format!("--cluster-link {}", config.cluster_link), config.cluster_link.as_str());
    let services = config
        .services
        .iter()
        .map(|one| (format!("--service {}={}", one.name, one.interface), one.interface.as_str()));
    for (written, name) in data.chain(services).chain([link]) {
        let Some(interface) = interfaces.get(name) else {
            return Err(ConfigError(format!(
                "{written}: there is no interface {name} here; the kernel has {}",
                interfaces.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            )));
        };
        if !interface.up {
            warnings.push(format!("interface {name} is down: run `ip link set {name} up`"));
        }
        if name != config.cluster_link {
            largest_data_mtu = largest_data_mtu.max(interface.mtu);
        }
    }
    let link = &interfaces[&config.cluster_link];
    if !link.addresses.contains(&config.cluster_address) {
        return Err(ConfigError(wrong_address(config, interfaces)));
    }
    warnings.extend(narrow_link(config, largest_data_mtu, link.mtu));
    Ok(())
}

/// A warning if the cluster link does not carry full packets of a data interface; MTUs in bytes.
pub fn narrow_link(config: &Config, data_mtu: u32, link_mtu: u32) -> Option<String> {
    let overhead = tunnel_overhead(config.cluster_address);
    let wanted = data_mtu.saturating_add(overhead);
    (link_mtu < wanted).then(|| {
        format!(
            "cluster link {0} has MTU {link_mtu} and a data interface {data_mtu}: full packets do not fit the tunnel, which adds {overhead} bytes, so they are cut or their senders told to send smaller ones; run `ip link set {0} mtu {wanted}`, and let switches between the nodes carry as much",
            config.cluster_link
        )
    })
}

fn wrong_address(config: &Config, interfaces: &BTreeMap<String, Interface>) -> String {
    let (address, link) = (config.cluster_address, &config.cluster_link);
    let elsewhere = interfaces.iter().find(|(_, interface)| interface.addresses.contains(&address));
    let found = match elsewhere {
        Some((name, _)) => format!("it is on {name}"),
        None => "no interface has it".into(),
    };
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    format!(
        "--cluster-address {address} is not on the cluster link {link} ({found}): peers reach this node there; correct one of the two or run `ip address add {address}/{prefix} dev {link}`"
    )
}

fn verify_cores(config: &Config, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let usable: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if usable.is_empty() {
        return Ok(());
    }
    if let Some(core) = config.cores.iter().find(|core| !usable.contains(core)) {
        return Err(ConfigError(format!(
            "--cores: core {core} is not usable by this process; choose from {}",
            usable.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        )));
    }
    if let super::Workers::Count(workers) = config.workers
        && workers > usable.len()
    {
        warnings.push(format!(
            "--workers {workers} is more than the {} cores this process may use: some will share one",
            usable.len()
        ));
    }
    Ok(())
}

/// FIFO must be allowed here, and may spin only where nobody else needs the cores.
fn verify_scheduling(config: &Config) -> Result<(), ConfigError> {
    if config.tuning.sched != Sched::Fifo {
        return Ok(());
    }
    if config.tuning.idle == Idle::Spin && !config.tuning.fifo_spin {
        let isolated = isolated_cores();
        let usable = core_affinity::get_core_ids().unwrap_or_default();
        let first = usable.iter().map(|core| core.id).collect();
        let cores = if config.cores.is_empty() { &first } else { &config.cores };
        if let Some(core) = cores.iter().find(|core| !isolated.contains(core)) {
            return Err(ConfigError(format!(
                "--sched fifo with --idle spin takes core {core} away from everything else, and it is not isolated: use --idle adaptive, or isolate the cores of --cores (kernel parameter isolcpus), or say --fifo-spin if that is what you want"
            )));
        }
    }
    crate::watchdog::fifo_allowed().map_err(|error| {
        ConfigError(format!(
            "--sched fifo is not permitted here ({error}): run as root or with CAP_SYS_NICE, in a control group that has real-time share (cpu.rt_runtime_us above 0 where the kernel groups it), or use --sched other"
        ))
    })
}

/// Cores of the kernel parameter isolcpus; none if the kernel does not say.
pub(crate) fn isolated_cores() -> Vec<usize> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    if list.trim().is_empty() { Vec::new() } else { super::values::cores(list.trim()).unwrap_or_default() }
}

async fn interfaces() -> Result<BTreeMap<String, Interface>, rtnetlink::Error> {
    let (connection, netlink, _) =
        rtnetlink::new_connection().map_err(|_| rtnetlink::Error::RequestFailed)?;
    let driver = tokio::spawn(connection);
    let mut found = BTreeMap::new();
    let mut links = netlink.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let mut interface = Interface {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            addresses: Vec::new(),
        };
        let mut name = None;
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                _ => {}
            }
        }
        if let Some(name) = name {
            found.insert(name, interface);
        }
    }
    let mut addresses = netlink.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        // On a point-to-point link `Address` is the other end's and `Local` our own.
        let own = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(address) => Some((1, *address)),
            AddressAttribute::Address(address) => Some((0, *address)),
            _ => None,
        };
        let address = message.attributes.iter().filter_map(own).max_by_key(|(rank, _)| *rank);
        let interface = found.values_mut().find(|i| i.index == message.header.index);
        if let (Some((_, address)), Some(interface)) = (address, interface) {
            interface.addresses.push(address);
        }
    }
    driver.abort();
    Ok(found)
}
