//! A node that has lost a data interface does not take its part: it tells weight 0 and hands over what it owns, as
//! one that drains, and goes on redirecting what still arrives here. And peers that begin anew lose what they owned.

use samepath_bpf::PortRole;
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::mailbox::ToWorker;

use super::Node;
use crate::routes::LinkState;

/// How long a data interface must be down before the node gives its flows away, ms. Shorter: a link that flaps at
/// renegotiation moves every flow; longer: packets die on the way to it meanwhile.
const LINK_DOWN_MS: u64 = 100;

/// How long it must be up again before the node takes new flows, ms: neighbours and routes follow a link late.
const LINK_UP_MS: u64 = 2_000;

/// What keeps this node from its part.
#[derive(Debug, Default)]
pub(super) struct Duty {
    /// A data interface has been down for long enough.
    pub(super) links_down: bool,
    /// The data interfaces changed to the opposite of `links_down` then.
    changed: Option<NowMs>,
    /// The data interfaces now.
    down: Vec<String>,
}

impl Duty {
    /// Takes the state of the links.
    fn observe(&mut self, down: Vec<String>, now: NowMs) {
        self.down = down;
        let turned = self.down.is_empty() == self.links_down;
        self.changed = turned.then(|| self.changed.unwrap_or(now));
    }

    /// True if the links have been otherwise for long enough.
    fn turns(&mut self, now: NowMs) -> bool {
        let wait = if self.links_down { LINK_UP_MS } else { LINK_DOWN_MS };
        let due = self.changed.is_some_and(|since| now.since(since) >= wait);
        if due {
            self.changed = None;
            self.links_down = !self.links_down;
        }
        due
    }

    /// A data interface is there, as far as it counts.
    pub(super) fn is_up(&self, name: &str) -> bool {
        !self.links_down || !self.down.iter().any(|down| down == name)
    }

    /// A sentence for `status`.
    pub(super) fn warning(&self) -> Option<String> {
        self.links_down.then(|| {
            format!(
                "{} without carrier: this node owns no flows until it is up again (or take it out of --data)",
                if self.down.is_empty() {
                    "a data interface was".into()
                } else {
                    self.down.join(", ") + " is"
                }
            )
        })
    }
}

impl Node {
    /// Takes the state of the data interfaces.
    pub(super) fn observe_links(&mut self, links: &[LinkState]) {
        let dead =
            |ifindex: u32| links.iter().any(|link| link.ifindex == ifindex && !(link.up && link.carrier));
        let data = self.nics.iter().filter(|nic| nic.role == PortRole::Data);
        let down = data.filter(|nic| dead(nic.ifindex)).map(|nic| nic.name.clone()).collect();
        let now = self.now();
        self.duty.observe(down, now);
    }

    /// Begins and ends duty with the data interfaces.
    pub(super) fn watch_duty(&mut self) {
        let now = self.now();
        if !self.duty.turns(now) {
            return;
        }
        if self.duty.links_down {
            tracing::warn!(interfaces = ?self.duty.down, "a data interface is down: flows are handed over");
        } else {
            tracing::info!("all data interfaces are up again");
        }
    }

    /// A peer runs again without what it owned: it directs nothing until it says so, then its flows get new Owners.
    pub(super) fn adopt_flows_of(&mut self, from: NodeId) -> anyhow::Result<()> {
        tracing::info!(peer = %from, "peer has begun anew: its flows get new Owners");
        self.membership.evidence_mut().restarted(from);
        self.renew_view()?;
        self.workers.tell_all(|| ToWorker::Adopt { owner: from });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_flaps_moves_no_flows_and_one_that_stays_down_does() {
        let mut duty = Duty::default();
        let down = || vec![String::from("eth1")];
        duty.observe(down(), NowMs(1_000));
        assert!(!duty.turns(NowMs(1_099)));
        duty.observe(Vec::new(), NowMs(1_099));
        assert!(!duty.turns(NowMs(9_000)) && !duty.links_down);
        duty.observe(down(), NowMs(10_000));
        duty.observe(down(), NowMs(10_050));
        assert!(duty.turns(NowMs(10_100)) && duty.links_down);
        assert!(!duty.turns(NowMs(20_000)));
        duty.observe(Vec::new(), NowMs(20_000));
        assert!(!duty.turns(NowMs(21_999)));
        assert!(duty.turns(NowMs(22_000)) && !duty.links_down && duty.warning().is_none());
    }
}
