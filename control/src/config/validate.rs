//! Rules between values; what a single value may be is decided where it is read ([`super::values`]).

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use samepath_dataplane::limits::{MAX_NODES, MAX_PORTS};

use super::{Config, ConfigError, TUNNEL_PORT, Workers};

/// Longest path of a unix socket (`sun_path` without its final zero, unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

/// Pass rules the steering map has room for.
const PASS_RULES: usize = 1024;

fn refuse(sentence: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError(sentence.into()))
}

impl Config {
    /// Checks the rules between values, for `run` and `check` alike.
    ///
    /// Errors: the first rule that is broken, as a sentence with its remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_interfaces()?;
        self.validate_peers()?;
        self.validate_cores()?;
        self.validate_batches()?;
        self.validate_operation()
    }

    fn validate_interfaces(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeMap::new();
        for data in &self.data {
            if let Some(zone) = seen.insert(&data.interface, &data.zone) {
                return refuse(format!(
                    "--data names interface {} twice (zones {zone} and {}): an interface belongs to one zone; remove one of the two",
                    data.interface, data.zone
                ));
            }
        }
        if let Some(zone) = seen.get(&self.cluster_link) {
            return refuse(format!(
                "--cluster-link {0} is also a data interface (--data {zone}={0}): peers need an interface of their own; use another one for one of the two",
                self.cluster_link
            ));
        }
        self.validate_services()?;
        if self.ports() > MAX_PORTS {
            return refuse(format!(
                "--data is given {} times and --service {}: a node has at most {MAX_PORTS} interfaces with its cluster link; leave {} out",
                self.data.len(),
                self.services.len(),
                self.ports() - MAX_PORTS
            ));
        }
        Ok(())
    }

    fn validate_services(&self) -> Result<(), ConfigError> {
        let mut interfaces: Vec<&str> = self.data.iter().map(|data| data.interface.as_str()).collect();
        interfaces.push(&self.cluster_link);
        let mut names: Vec<&str> = self.data.iter().map(|data| data.zone.as_str()).collect();
        for service in &self.services {
            let written = format!("--service {}={}", service.name, service.interface);
            if names.contains(&service.name.as_str()) {
                return refuse(format!(
                    "{written}: {} is already the name of a zone or a service: policies tell them apart by their names; give it another",
                    service.name
                ));
            }
            if interfaces.contains(&service.interface.as_str()) {
                return refuse(format!(
                    "{written}: interface {} is already a data interface, the cluster link or another service's: a service needs an interface of its own; use another one",
                    service.interface
                ));
            }
            names.push(&service.name);
            interfaces.push(&service.interface);
        }
        Ok(())
    }

    fn validate_peers(&self) -> Result<(), ConfigError> {
        if self.peers.len() + 1 > MAX_NODES {
            return refuse(format!(
                "--peer is given {} times: a cluster has at most {MAX_NODES} nodes; split it",
                self.peers.len()
            ));
        }
        let mut addresses = BTreeMap::from([(self.cluster_address, self.node)]);
        let mut nodes = BTreeMap::new();
        for peer in &self.peers {
            let written = format!("--peer {}={}", peer.node, peer.address);
            if peer.node == self.node {
                return refuse(format!(
                    "{written} has this node's own number (--node-id {}): peers are the other nodes; remove it or correct one of the two numbers",
                    self.node
                ));
            }
            if nodes.insert(peer.node, peer.address).is_some() {
                return refuse(format!(
                    "{written} gives node {} a second time: every peer is named once; remove one of the two",
                    peer.node
                ));
            }
            if let Some(other) = addresses.insert(peer.address, peer.node) {
                return refuse(format!(
                    "{written} has the address of node {other}: every node has its own cluster address; correct one of the two"
                ));
            }
            if peer.address.is_ipv4() != self.cluster_address.is_ipv4() {
                return refuse(format!(
                    "{written} and --cluster-address {} are not of one IP version: the tunnel between nodes is either IPv4 or IPv6; give all nodes addresses of one version",
                    self.cluster_address
                ));
            }
            if peer.port == Some(TUNNEL_PORT) {
                return refuse(format!(
                    "{written}:{TUNNEL_PORT} is the tunnel's port: the control channel needs another; use {}",
                    super::CONTROL_PORT
                ));
            }
        }
        Ok(())
    }

    fn validate_cores(&self) -> Result<(), ConfigError> {
        let Workers::Count(workers) = self.workers else { return Ok(()) };
        if !self.cores.is_empty() && self.cores.len() < workers {
            return refuse(format!(
                "--workers {workers} needs {workers} cores and --cores lists {}: every worker has a core of its own; list more cores or run fewer workers",
                self.cores.len()
            ));
        }
        let rings = 2 * self.ring_size as usize * self.ports() * workers;
        if let Some(frames) = self.frames.filter(|&frames| (frames as usize) < rings / 2) {
            return refuse(format!(
                "--frames {frames} is too few for {} interfaces with {workers} workers and --ring-size {}: their receive rings alone take {}; give at least {rings}, or leave --frames out",
                self.ports(),
                self.ring_size,
                rings / 2
            ));
        }
        Ok(())
    }

    fn validate_batches(&self) -> Result<(), ConfigError> {
        let ring = self.ring_size;
        if self.tuning.batch > ring as usize {
            return refuse(format!(
                "--batch {} is more than a ring holds (--ring-size {ring}): a turn takes what is in a ring; give at most {ring}, or larger rings",
                self.tuning.batch
            ));
        }
        if let Some(batch) = self.tuning.tx_batch.filter(|&batch| batch > ring) {
            return refuse(format!(
                "--tx-batch {batch} is more than a ring holds (--ring-size {ring}): a wakeup sends what is in a ring; give at most {ring}, or larger rings"
            ));
        }
        Ok(())
    }

    fn validate_operation(&self) -> Result<(), ConfigError> {
        if self.control_port == TUNNEL_PORT {
            return refuse(format!(
                "--control-port {TUNNEL_PORT} is the tunnel's port: the control channel needs another; use {}",
                super::CONTROL_PORT
            ));
        }
        if self.peer_timeout_ms < 3 * self.hello_interval_ms {
            return refuse(format!(
                "--peer-timeout-ms {} is less than three times --hello-interval-ms {}: one lost packet would look like a death; raise the first or lower the second",
                self.peer_timeout_ms, self.hello_interval_ms
            ));
        }
        if self.quorum > self.peers.len() + 1 {
            return refuse(format!(
                "--quorum {} is more than the cluster has nodes ({} with this one): no flow could ever begin; give at most {}, better one more than half",
                self.quorum,
                self.peers.len() + 1,
                self.peers.len() + 1
            ));
        }
        if self.pass.len() > PASS_RULES {
            return refuse(format!(
                "--pass is given {} times: there is room for {PASS_RULES} rules; use port 0 for all ports of a protocol",
                self.pass.len()
            ));
        }
        let length = self.control_socket.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_BYTES {
            return refuse(format!(
                "--control-socket {} has {length} bytes: the path of a unix socket has at most {SOCKET_PATH_BYTES}; choose a shorter one",
                self.control_socket.display()
            ));
        }
        Ok(())
    }
}
