//! Packets to services and from them.

use super::{Job, Worker};
use crate::clock::NowMs;
use crate::decide::Arrival;
use crate::flow::proto;
use crate::policy::Judgement;
use crate::service::Service;
use crate::session::Session;
use crate::session::table::Slot;
use crate::verdict::DropReason;
use crate::wire::answer::Complaint;
use crate::wire::layout::Layout;
use crate::wire::rewrite;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Number of the service of this node that a packet comes from, 0 for none: by its port, or by the zone the
    /// packet was given when it was sent to its Director.
    #[inline]
    pub(super) fn service_it_came_from(&self, job: &Job<I::Frame>) -> u8 {
        let zone = match &job.arrival {
            Arrival::Data => self.ports.zone_of(job.packet.layout.port),
            Arrival::Tunnel(option) if option.ingress == self.snapshots.view.me => option.zone,
            Arrival::Tunnel(_) => return 0,
        };
        self.services.of_zone(zone)
    }

    pub(super) fn count_from_service(&self, job: &Job<I::Frame>, number: u8) {
        if number != 0 && job.arrival == Arrival::Data {
            self.counters.services[usize::from(number)].from.add(1);
        }
    }

    /// The service of a session that begins with this packet: where it comes from, else what the policy says.
    pub(super) fn service_of_new(&self, job: &Job<I::Frame>, judgement: &Judgement) -> u8 {
        self.service_by(self.service_it_came_from(job), judgement)
    }

    /// [`Worker::service_of_new`] of a packet that comes from service `from`.
    pub(super) fn service_by(&self, from: u8, judgement: &Judgement) -> u8 {
        match (from, judgement.service()) {
            (0, number) if self.services.get(number).is_some_and(Service::is_bypassed) => 0,
            (0, number) => number,
            (from, _) => from,
        }
    }

    /// A proxy on another node had this session: nobody has its state any longer.
    pub(super) fn is_orphan_of_proxy(&self, session: &Session) -> bool {
        let foreign = session.admission.policy == 0 && self.snapshots.policy.policy.number != 0;
        foreign && session.key.proto() == proto::TCP && self.services.is_proxy(session.admission.service)
    }

    /// Sends a packet to a service; while it is down, on without it or nowhere.
    pub(crate) fn serve(&mut self, mut job: Job<I::Frame>, number: u8, slot: Option<Slot>, now: NowMs) {
        let service = self.services.get(number).copied();
        let Some(hop) = service.and_then(|service| service.hop) else {
            return match service {
                Some(service) if service.lets_go() => self.forward(job, slot, now),
                _ => self.drop_frame(job.frame, DropReason::ServiceDown),
            };
        };
        let layout = Layout { inner_off: 0, ..job.packet.layout };
        if job.packet.layout.inner_off > 0 {
            self.io.shrink_front(&mut job.frame, usize::from(job.packet.layout.inner_off));
        }
        if u32::from(layout.l3_end.saturating_sub(layout.l3_off)) > hop.mtu {
            return self.complain(job.frame, layout, (Complaint::TooBig(hop.mtu), DropReason::TooBig), now);
        }
        rewrite::set_macs(self.io.bytes_mut(&mut job.frame), hop.destination_mac, hop.source_mac);
        self.counters.service.add(1);
        self.counters.services[usize::from(number)].to.add(1);
        self.send(hop.port, job.frame);
    }
}
