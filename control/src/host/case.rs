//! A host, what is to run on it, and what does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use samepath_bpf::PortRole;

use super::{Host, Link, Node, Place, running};
use crate::config::options;
use crate::config::{self, Config, Flags};
use crate::nic;
use crate::operator::client::ClientError;

/// Where the packaged unit looks for configurations.
const CONFIGURATIONS: &str = "/etc/samepath";

/// See the fields.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// The host.
    pub host: Host,
    /// What is to run; `None`: nobody said, or it cannot be used.
    pub config: Option<Config>,
    /// Where the configuration came from, or why there is none.
    pub source: String,
    /// Why the configuration cannot be used.
    pub refused: Option<String>,
    /// What runs.
    pub node: Option<Node>,
    /// Why the running node could not be asked.
    pub mute: Option<String>,
}

/// An interface samepath serves.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// What it is for.
    pub role: PortRole,
    /// As the kernel knows it.
    pub link: &'a Link,
}

impl Case {
    /// Looks at `place` with the configuration of flags and variables; without any, that of the running node,
    /// else the only one in /etc/samepath.
    pub fn read(place: &Place, flags: &Flags, variables: &BTreeMap<String, String>) -> Self {
        let mut case = Self::default();
        let given = given(flags, variables);
        if given {
            case.configure("the command line", flags, variables);
        }
        let named: Option<PathBuf> =
            flags.values.get("control-socket").and_then(|values| values.last().map(Into::into));
        let socket = case.config.as_ref().map(|config| config.control_socket.clone()).or(named);
        match running(place, socket.as_deref()) {
            Ok(node) => case.node = Some(node),
            Err(ClientError::Unreachable(why)) if socket.as_ref().is_some_and(|socket| socket.exists()) => {
                case.mute = Some(why);
            }
            Err(_) => {}
        }
        if !given {
            case.configure_by_host(place);
        }
        let pid = case.node.as_ref().map(|node| node.pid).filter(|&pid| pid != 0);
        case.host = Host::read(place, case.config.as_ref(), pid);
        case
    }

    fn configure_by_host(&mut self, place: &Place) {
        if let Some(node) = self.node.clone() {
            return self.configure("the running node", &node.flags, &node.variables);
        }
        let files = place.names(CONFIGURATIONS).into_iter().filter(|name| name.ends_with(".toml"));
        match files.collect::<Vec<_>>().as_slice() {
            [only] => {
                let path = place.path(&format!("{CONFIGURATIONS}/{only}"));
                let flags = Flags { config: Some(path), ..Flags::default() };
                self.configure(&format!("{CONFIGURATIONS}/{only}"), &flags, &BTreeMap::new());
            }
            [] => self.source = "none: no flags, no node runs, no file in /etc/samepath".into(),
            _ => self.source = "none: several files in /etc/samepath; name one with --config".into(),
        }
    }

    fn configure(&mut self, source: &str, flags: &Flags, variables: &BTreeMap<String, String>) {
        self.source = source.into();
        match config::load(flags, variables) {
            Ok(config) => self.config = Some(config),
            Err(error) => self.refused = Some(error.to_string()),
        }
    }

    /// Names and roles of the configured interfaces.
    pub fn interfaces(&self) -> Vec<(PortRole, &str)> {
        let Some(config) = &self.config else { return Vec::new() };
        let data = config.data.iter().map(|data| (PortRole::Data, data.interface.as_str()));
        let services = config.services.iter().map(|one| (PortRole::Service, one.interface.as_str()));
        data.chain(services).chain([(PortRole::ClusterLink, config.cluster_link.as_str())]).collect()
    }

    /// The configured interfaces that are there.
    pub fn ports(&self) -> Vec<Port<'_>> {
        let there = |(role, name)| Some(Port { role, link: self.host.links.get(name)? });
        self.interfaces().into_iter().filter_map(there).collect()
    }

    /// The configured data interfaces that are there.
    pub fn data_links(&self) -> Vec<&Link> {
        self.ports().into_iter().filter(|port| port.role == PortRole::Data).map(|port| port.link).collect()
    }

    /// The cluster link, if it is there.
    pub fn cluster_link(&self) -> Option<&Link> {
        self.host.links.get(&self.config.as_ref()?.cluster_link)
    }

    /// Cores the workers are, or will be, pinned to.
    pub fn worker_cores(&self) -> Vec<usize> {
        if let Some(node) = self.node.as_ref().filter(|node| !node.status.scheduling.is_empty()) {
            return node.status.scheduling.iter().map(|worker| worker.core).collect();
        }
        let Some(config) = &self.config else { return Vec::new() };
        let most_queues = self.ports().iter().map(|port| port.link.rx_queues).max().unwrap_or(1);
        let workers = nic::workers_for(config, most_queues);
        if config.cores.is_empty() {
            let online = self.host.machine.cores.iter().filter(|core| core.online);
            return online.map(|core| core.id).take(workers).collect();
        }
        config.cores.iter().copied().take(workers).collect()
    }

    /// Bytes of packet memory.
    pub fn packet_memory(&self) -> Option<u64> {
        let ports = self.ports();
        let config = self.config.as_ref().filter(|_| !ports.is_empty())?;
        let queues = ports.iter().map(|port| port.link.rx_queues.max(1)).sum();
        let mtu = ports.iter().map(|port| port.link.mtu).max().unwrap_or(1500);
        let (frames, size) = nic::packet_memory(config, queues, mtu);
        Some(u64::from(frames) * u64::from(size))
    }
}

/// Whether anything was said on the command line or by variables.
fn given(flags: &Flags, variables: &BTreeMap<String, String>) -> bool {
    // A socket alone says which node to look at, not what is to run.
    let mut others = options::all().filter(|option| option.name != "control-socket");
    let set = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty());
    flags.config.is_some()
        || set("SAMEPATH_CONFIG")
        || others.any(|option| flags.values.contains_key(option.name) || set(&option.variable()))
}
