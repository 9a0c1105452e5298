//! Service ports: a namespace per node with a proxy or an inspector in it, set up as docs/services.md says.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Bed, Service, build, plan};
use crate::netns::Namespace;
use crate::{program, wait};

/// The node's end of the link to its service.
pub const SERVICE_PORT: &str = "svc0";

/// What is in a service's namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// HAProxy with TPROXY and the client's address as source.
    Proxy,
    /// The kernel's router with `ct state`, back out of the interface by which packets come.
    Inspector,
}

/// Configuration files of docs/services/, as an operator would use them.
const TPROXY: &str = include_str!("../../../docs/services/haproxy.nft");
const TPROXY_ROUTES: &str = include_str!("../../../docs/services/transparent.rules");
const HAPROXY: &str = include_str!("../../../docs/services/haproxy.cfg");
const INSPECTION: &str = include_str!("../../../docs/services/inspector.nft");

/// Ports that HAProxy serves: web server and echo.
pub const HAPROXY_PORTS: [u16; 2] = [80, 7010];

/// No router's answers to hosts about a way that only looks too long.
const BACK_WHERE_IT_CAME_FROM: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];

impl Bed {
    /// Makes the namespace of a node's service and its link, and sets it up for HAProxy or as an inspector.
    pub fn add_service_port(&self, number: u8, kind: Kind) -> Result<Namespace> {
        let service = self.add_service_link(number)?;
        match kind {
            Kind::Proxy => set_up_haproxy(&service)?,
            Kind::Inspector => set_up_inspector(&service)?,
        }
        Ok(service)
    }

    /// Makes the namespace of a node's service and its link.
    pub fn add_service_link(&self, number: u8) -> Result<Namespace> {
        let service = Namespace::add(self.prefix(), &format!("s{number}"))?;
        service.sysctl(build::QUIET)?;
        let node = self.node_namespace(number);
        let queues = "numrxqueues 1 numtxqueues 1";
        program::feed(
            Command::new("ip").args(["-batch", "-"]),
            &format!(
                "link add {SERVICE_PORT} {queues} netns {} type veth peer name eth0 {queues} netns {}\n",
                node.name(),
                service.name()
            ),
        )?;
        node.ip(&format!(
            "link set {SERVICE_PORT} up\naddress add 10.66.{number}.1/24 dev {SERVICE_PORT}\naddress add fd00:66:{number}::1/64 dev {SERVICE_PORT} nodad\n"
        ))?;
        service.ip(&format!(
            "link set eth0 up\naddress add 10.66.{number}.2/24 dev eth0\naddress add fd00:66:{number}::2/64 dev eth0 nodad\nroute add default via 10.66.{number}.1\nroute add default via fd00:66:{number}::1\n"
        ))?;
        build::plain_frames(node, SERVICE_PORT)?;
        build::plain_frames(&service, "eth0")?;
        Ok(service)
    }

    /// The value of `--service` for a node with a port of [`Bed::add_service_port`].
    pub fn service_flag(&self, number: u8, kind: Kind) -> String {
        match kind {
            Kind::Proxy => format!("web=proxy:{SERVICE_PORT}@10.66.{number}.2"),
            Kind::Inspector => format!("web=inspect:{SERVICE_PORT}@fd00:66:{number}::2"),
        }
    }

    /// Starts HAProxy in a service's namespace and waits until it listens.
    pub fn start_haproxy(&self, number: u8, namespace: &Namespace) -> Result<Service> {
        let config = self.runtime().join(format!("haproxy{number}.cfg"));
        fs::write(&config, HAPROXY)?;
        let mut command = namespace.command("haproxy");
        let mut service =
            self.start_service(&format!("haproxy{number}"), command.args(["-db", "-f"]).arg(&config))?;
        wait::until_true("HAProxy listens", Duration::from_secs(10), || {
            if service.ended()?.is_some() {
                bail!("HAProxy ended: {}", service.log_tail());
            }
            let listening = program::run(namespace.command("ss").args(["-Hltn", "sport = :8080"]))?;
            Ok(listening.lines().count() == 2)
        })?;
        Ok(service)
    }

    /// Starts all nodes, each with its service port and these flags, and waits until every service is up.
    pub fn start_nodes_with_services(&mut self, kind: Kind, extra: &[&str]) -> Result<()> {
        for number in 1..=plan::NODES {
            let service = self.service_flag(number, kind);
            let flags: Vec<&str> = [&["--service", service.as_str()], extra].concat();
            self.launch_node(number, &flags)?;
        }
        for number in 1..=plan::NODES {
            self.wait_ready(number)?;
        }
        self.wait_members(plan::NODES)?;
        self.running().into_iter().try_for_each(|number| self.wait_service(number, true))
    }

    /// Waits until a node says that its service is up, or down.
    pub fn wait_service(&self, number: u8, up: bool) -> Result<()> {
        let what = format!("service of node {number}: up is {up}");
        wait::until_true(&what, Duration::from_secs(10), || {
            Ok(self.status(number)?["services"][0]["up"].as_bool() == Some(up))
        })
    }
}

/// HAProxy's ports are diverted to it.
pub fn set_up_haproxy(service: &Namespace) -> Result<()> {
    divert_to_local_sockets(service)?;
    service.nft(&TPROXY.replace("{ 80, 443 }", &nft_set(&HAPROXY_PORTS)))
}

/// Packets go back where they came from, if the kernel's connection tracking knows them.
pub fn set_up_inspector(service: &Namespace) -> Result<()> {
    service.sysctl(BACK_WHERE_IT_CAME_FROM)?;
    service.nft(INSPECTION)
}

/// Packets with the mark 1 are for this host, whatever their address; and the proxy's ports to servers are none that a
/// client of the same address has.
pub fn divert_to_local_sockets(service: &Namespace) -> Result<()> {
    service.sysctl(&[("ipv4/ip_local_port_range", "10000 29999")])?;
    both_families(service, TPROXY_ROUTES)
}

/// A batch of `ip` for IPv4, and the same for IPv6.
pub fn both_families(namespace: &Namespace, lines: &str) -> Result<()> {
    namespace.ip(lines)?;
    let mut ipv6 = Command::new("ip");
    program::feed(ipv6.args(["-6", "-n", namespace.name(), "-batch", "-"]), lines).map(drop)
}

/// Ports as nft writes a set.
pub fn nft_set(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

/// A policy that sends connections to these ports through the service `web`, and lets it begin its own.
pub fn policy(ports: &[u16]) -> String {
    format!(
        "default = \"deny\"

[[rule]]
name = \"through\"
from = \"inside\"
protocol = \"tcp\"
destination_port = {ports:?}
action = \"service\"
service = \"web\"

[[rule]]
name = \"legs\"
from = \"web\"
protocol = \"tcp\"
destination_port = {ports:?}
action = \"allow\"
"
    )
}
