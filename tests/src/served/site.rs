//! A bed with a service beside each node, ready for transactions.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::witness::{self, Seen};
use super::{Column, Served, plain};
use crate::bed::plan::{self, Family, NODES};
use crate::bed::{Bed, Kind, Service, Shape, service_port};
use crate::netns::Namespace;

/// Addresses of the server that are asked; the client's are all used.
pub const SERVERS: u8 = 4;

/// How long a transaction may take if it must work, and if it must not.
const PATIENT: Duration = Duration::from_secs(20);
const IMPATIENT: Duration = Duration::from_secs(3);

/// Who speaks to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Of both addresses.
    pub family: Family,
    /// The client's address.
    pub from: IpAddr,
    /// The server's address.
    pub to: IpAddr,
}

impl Ends {
    /// Of transaction number `turn`: both IP versions and all addresses in turn, so that all nodes are Directors.
    pub fn of(turn: usize) -> Self {
        let family = Family::BOTH[turn % 2];
        let (client, server) = (turn / 2 % 16, turn / 32 % usize::from(SERVERS));
        Self { family, from: plan::client(family, client as u8), to: plan::server(family, server as u8) }
    }

    /// The server's name, which only clients and proxies that were told know: one for each address.
    pub fn server_name(&self) -> String {
        let to: String =
            self.to.to_string().chars().map(|c| if matches!(c, '.' | ':') { '-' } else { c }).collect();
        format!("s{to}.server.example")
    }
}

/// All addresses of the server that are asked, as ends from the client's first address.
pub fn servers() -> impl Iterator<Item = Ends> {
    Family::BOTH.into_iter().flat_map(|family| {
        (0..SERVERS).map(move |index| Ends {
            family,
            from: plan::client(family, 0),
            to: plan::server(family, index),
        })
    })
}

/// See the module. Dropping it ends everything.
#[derive(Debug)]
pub struct Site {
    // Before the bed: programs end while their namespaces are there.
    programs: Vec<Service>,
    spaces: Vec<Namespace>,
    /// The bed.
    pub bed: Bed,
    /// How long a transaction may take.
    pub patience: Duration,
}

impl Site {
    /// Builds a bed, the service on each node, and lets kernels or samepath route.
    pub fn build(served: &dyn Served, column: Column) -> Result<Self> {
        let name = format!("services-{}-{}", served.name(), column.name());
        let bed = Bed::new(&name, Shape::default())?;
        let patience = if column.must_work() { PATIENT } else { IMPATIENT };
        let mut site = Self { programs: Vec::new(), spaces: Vec::new(), bed, patience };
        site.programs = served.start_servers(&site.bed).context("servers")?;
        if let Some(kind) = served.kind() {
            for number in 1..=NODES {
                let space = site.bed.add_service_link(number)?;
                witness::watch(&space)?;
                let started = served.start(&site.bed, number, &space);
                site.programs.extend(started.with_context(|| format!("service of node {number}"))?);
                site.spaces.push(space);
            }
            site.route(served, column, kind)?;
        } else {
            let on = if column == Column::With { "on" } else { "off" };
            site.bed.start_nodes(&["--aggregation", on])?;
        }
        site.bed.return_via(column.back())?;
        site.bed.services_via(column.back())?;
        Ok(site)
    }

    fn route(&mut self, served: &dyn Served, column: Column, kind: Kind) -> Result<()> {
        if column != Column::With {
            return (1..=NODES).try_for_each(|number| plain::route_through_service(&self.bed, number));
        }
        let policy = self.bed.runtime().join("policy.toml");
        fs::write(&policy, service_port::policy(served.ports()))?;
        self.bed.start_nodes_with_services(kind, &["--policy", &policy.display().to_string()])
    }

    /// What each service has seen, node 1 first. Empty if there is none.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        self.spaces.iter().map(witness::read).collect()
    }

    /// The namespace of a node's service.
    pub fn space(&self, number: u8) -> &Namespace {
        &self.spaces[usize::from(number) - 1]
    }

    /// Everything balances, nodes stop cleanly, the bed goes.
    pub fn finish(self) -> Result<()> {
        drop(self.programs);
        self.bed.finish()
    }
}
