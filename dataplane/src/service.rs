//! Service ports: where the Owner hands a flow to a local proxy or inspector, and where what comes back arrives.
//!
//! ```text
//!  network ──► Owner ── session names service n ──► its port ──► proxy or inspector
//!                ▲                                                     │
//!                └── from that port: on as routing says ◄──────────────┘
//! ```

use crate::route::LinkHop;
use crate::session::ZONES;

/// Services of one node; their numbers, from 1 on, have four bits in sessions and records.
pub const MAX_SERVICES: usize = 15;

/// What a service does with packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceMode {
    /// It ends flows and begins its own: packets that come from it are its own.
    Proxy,
    /// It gives packets back as they were, or does not.
    Inspect,
}

impl ServiceMode {
    /// Its word on the command line and in `samepath status`.
    pub fn name(self) -> &'static str {
        match self {
            ServiceMode::Proxy => "proxy",
            ServiceMode::Inspect => "inspect",
        }
    }
}

/// What becomes of flows while their service is down (`--service-down`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServiceDown {
    /// Their packets are dropped.
    #[default]
    Closed,
    /// They are forwarded without it, unless a proxy has them already.
    Open,
}

/// One service as workers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service {
    /// Number of the zone that its port is.
    pub zone: u8,
    /// What it does.
    pub mode: ServiceMode,
    /// What holds while it is down.
    pub down: ServiceDown,
    /// Where its packets go; `None`: its interface has no carrier or its neighbour is not known.
    pub hop: Option<LinkHop>,
}

impl Service {
    /// A flow that begins now goes on without it.
    pub fn is_bypassed(&self) -> bool {
        self.hop.is_none() && self.down == ServiceDown::Open
    }

    /// A flow that it has seen goes on without it. What a proxy has begun nobody else can go on with.
    pub fn lets_go(&self) -> bool {
        self.is_bypassed() && self.mode == ServiceMode::Inspect
    }
}

/// All services of a node by number. Immutable; published by control.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Services {
    by_number: [Option<Service>; MAX_SERVICES + 1],
    by_zone: [u8; ZONES as usize],
}

impl Services {
    /// Numbers them from 1 on, in order; at most [`MAX_SERVICES`] are taken.
    pub fn new(services: &[Service]) -> Self {
        let mut all = Self::default();
        for (number, service) in (1..=MAX_SERVICES as u8).zip(services) {
            all.by_number[usize::from(number)] = Some(*service);
            all.by_zone[usize::from(service.zone % ZONES)] = number;
        }
        all
    }

    /// The service with a number.
    pub fn get(&self, number: u8) -> Option<&Service> {
        self.by_number.get(usize::from(number))?.as_ref()
    }

    /// The service with a number is there and can be reached.
    pub fn is_up(&self, number: u8) -> bool {
        self.get(number).is_some_and(|service| service.hop.is_some())
    }

    /// Number of the service whose port a zone is, 0 if it is none.
    pub fn of_zone(&self, zone: u8) -> u8 {
        self.by_zone[usize::from(zone % ZONES)]
    }

    /// A service with this number is a proxy.
    pub fn is_proxy(&self, number: u8) -> bool {
        self.get(number).is_some_and(|service| service.mode == ServiceMode::Proxy)
    }

    /// There are proxies among them.
    pub fn have_proxies(&self) -> bool {
        self.by_number.iter().flatten().any(|service| service.mode == ServiceMode::Proxy)
    }

    /// A service with this number gives packets back as they were.
    pub fn is_inspector(&self, number: u8) -> bool {
        self.get(number).is_some_and(|service| service.mode == ServiceMode::Inspect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(mode: ServiceMode, down: ServiceDown, is_up: bool) -> Service {
        let hop = LinkHop { port: 2, source_mac: [2; 6], destination_mac: [4; 6], mtu: 1500 };
        Service { zone: 3, mode, down, hop: is_up.then_some(hop) }
    }

    #[test]
    fn who_goes_on_without_a_service() {
        use ServiceDown::{Closed, Open};
        use ServiceMode::{Inspect, Proxy};
        for (line, service, begins, goes_on) in [
            ("one that is up is never passed by", service(Inspect, Open, true), false, false),
            ("closed: nobody", service(Inspect, Closed, false), false, false),
            ("open: new and inspected flows", service(Inspect, Open, false), true, true),
            ("open: new flows, not those a proxy has", service(Proxy, Open, false), true, false),
        ] {
            assert_eq!((service.is_bypassed(), service.lets_go()), (begins, goes_on), "{line}");
        }
    }

    #[test]
    fn services_are_found_by_number_and_by_zone() {
        let web = service(ServiceMode::Proxy, ServiceDown::Closed, true);
        let ids = Service { zone: 1, mode: ServiceMode::Inspect, ..web };
        let services = Services::new(&[web, ids]);
        assert_eq!((services.of_zone(3), services.of_zone(1), services.of_zone(2)), (1, 2, 0));
        assert!(services.is_proxy(1) && services.is_inspector(2));
        assert!(!services.is_proxy(0) && !services.is_inspector(3) && services.get(0).is_none());
    }
}
