//! Real services beside the nodes, each over symmetric and asymmetric paths: `make test-services`.
//!
//! A [`Service`](Served) is set up as docs/services.md says, with the configuration files beside that page. The same
//! bed, programs and namespaces serve plain kernel routing and samepath ([`Column`]).

pub mod content;
pub mod death;
pub mod files;
pub mod haproxy;
pub mod held;
pub mod inspection;
pub mod listens;
pub mod mail;
pub mod origin;
pub mod plain;
pub mod site;
pub mod squid;
pub mod sslsplit;
pub mod transactions;
pub mod witness;

use anyhow::Result;

use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;
use held::Held;
use site::{Ends, Site};

/// Which paths packets take, and who brings both directions together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// There and back through node 1, the nodes' kernels route: how it is without the problem.
    Symmetric,
    /// There through node 1, back through node 3, the nodes' kernels route: the problem.
    Without,
    /// There through node 1, back through node 3, with samepath.
    With,
}

impl Column {
    /// All, as the table has them.
    pub const ALL: [Self; 3] = [Self::Symmetric, Self::Without, Self::With];

    /// Its name on the command line and in services.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "symmetric",
            Self::Without => "without",
            Self::With => "with",
        }
    }

    /// Whether transactions must succeed, all of them; otherwise none may.
    pub fn must_work(self) -> bool {
        self != Self::Without
    }

    /// The node that packets to clients pass.
    pub fn back(self) -> u8 {
        if self == Self::Symmetric { 1 } else { 3 }
    }
}

/// A service that stands beside each node.
pub trait Served: Sync {
    /// Its name on the command line and in services.json.
    fn name(&self) -> &'static str;

    /// What the table calls it.
    fn title(&self) -> &'static str;

    /// What samepath must know about it; `None`: it is samepath itself that follows connections.
    fn kind(&self) -> Option<Kind>;

    /// TCP ports of servers that it serves.
    fn ports(&self) -> &'static [u16];

    /// Starts what answers in the server's namespace.
    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>>;

    /// Sets up a service's namespace and starts its programs there.
    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>>;

    /// One whole transaction of a client; an error says in a few words without numbers how it failed.
    fn transact(&self, site: &Site, ends: Ends, turn: usize) -> Result<(), String>;

    /// A connection through it that stays open.
    fn hold(&self, site: &Site, ends: Ends, turn: usize) -> Result<Held>;
}

/// All of them, as the table has them.
pub fn all() -> Vec<Box<dyn Served>> {
    vec![
        Box::new(inspection::OwnTracking),
        Box::new(inspection::Nft),
        Box::new(haproxy::Haproxy),
        Box::new(squid::Squid),
        Box::new(sslsplit::Sslsplit),
        Box::new(content::Content),
        Box::new(mail::Mail),
    ]
}
