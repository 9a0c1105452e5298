//! The node's services: where their packets go now, who is down, what operators see of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use samepath_bpf::PortRole;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::route::Routes;
use samepath_dataplane::service::{Service, ServiceDown, Services};

use super::Node;
use crate::config::Config;
use crate::nic::Nic;
use crate::operator::api::{ServiceCount, ServiceRow};
use crate::routes::LinkState;

/// The services as routes and links are now.
pub(super) fn of(config: &Config, nics: &[Nic], routes: &Routes, links: &[LinkState]) -> Services {
    let services: Vec<Service> = config
        .services
        .iter()
        .filter_map(|port| {
            let nic = nics.iter().find(|nic| nic.role == PortRole::Service && nic.name == port.interface)?;
            let link = links.iter().find(|link| link.ifindex == nic.ifindex);
            let hop = routes.neighbour_hop(nic.ifindex, port.via);
            let hop = hop.filter(|_| link.is_some_and(|link| link.up && link.carrier));
            Some(Service { zone: nic.zone_number, mode: port.mode, down: config.service_down, hop })
        })
        .collect();
    Services::new(&services)
}

impl Node {
    /// Gives the services to the workers if anything about them changed.
    pub(super) fn follow_services(&mut self, links: &[LinkState]) {
        let now = of(&self.config, &self.nics, &self.routes, links);
        if now == *self.services {
            return;
        }
        for (number, port) in (1..).zip(&self.config.services) {
            match (self.services.is_up(number), now.is_up(number)) {
                (false, true) => tracing::info!(service = port.name, "service is up"),
                (true, false) => tracing::warn!(service = port.name, "service is down"),
                _ => {}
            }
        }
        self.services = Arc::new(now);
        self.publish_services();
    }

    pub(super) fn publish_services(&mut self) {
        let services = self.services.clone();
        self.workers.tell_all(|| ToWorker::Services(services.clone()));
    }

    /// Other ends of service ports, to be kept resolved.
    pub(super) fn service_neighbours(&self) -> impl Iterator<Item = (u32, std::net::IpAddr)> + '_ {
        let index_of =
            |name: &str| self.nics.iter().find(|nic| nic.name == name).map_or(0, |nic| nic.ifindex);
        self.config.services.iter().map(move |port| (index_of(&port.interface), port.via))
    }

    pub(super) fn service_rows(&self) -> Vec<ServiceRow> {
        let rows = (1..).zip(&self.config.services).map(|(number, port)| ServiceRow {
            name: port.name.clone(),
            interface: port.interface.clone(),
            via: port.via.to_string(),
            mode: port.mode.name().into(),
            up: self.services.is_up(number),
        });
        rows.collect()
    }

    pub(super) fn service_warnings(&self) -> Vec<String> {
        let down = (1..).zip(&self.config.services).filter(|(number, _)| !self.services.is_up(*number));
        let what = match self.config.service_down {
            ServiceDown::Closed => "its flows are dropped",
            ServiceDown::Open => "new flows go on without it",
        };
        down.map(|(_, port)| {
            format!(
                "service {} is down, {what}: {} must have carrier and {} answer on it",
                port.name, port.interface, port.via
            )
        })
        .collect()
    }

    pub(super) fn service_counts(&self) -> BTreeMap<String, ServiceCount> {
        let count = |number: usize| {
            let mut sum = ServiceCount::default();
            for counters in self.workers.counters().iter().map(|one| &one.services[number]) {
                sum.to += counters.to.get();
                sum.from += counters.from.get();
            }
            sum
        };
        (1..).zip(&self.config.services).map(|(number, port)| (port.name.clone(), count(number))).collect()
    }
}
