//! Whether the XDP program redirects by itself, and with which headers (`--forwarder`).
//!
//! Workers publish flows; this file says of which epoch entries may be followed. It closes the gate, or moves
//! it to the next epoch, before workers learn of a view or setting in which an entry could be wrong.

use std::time::Duration;

use samepath_bpf::{ForwardPeer, PortRole, Steering, takes_redirected_frames};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::view::{Peer, View};
use samepath_dataplane::forwards::{self, SharedWords};
use samepath_dataplane::settings::Settings;

use super::Node;
use crate::config::Forwarder;
use crate::nic::Nic;

/// How often the drivers are asked whether redirected frames would still be sent: frames that would not are
/// lost without a word, so no longer than this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The state of `--forwarder`.
#[derive(Debug)]
pub(super) struct Forwarding {
    wanted: bool,
    /// Why it is not done although wanted.
    obstacle: Option<String>,
    asked: NowMs,
}

impl Forwarding {
    /// Tells the program where tunnelled packets leave, if they shall.
    pub(super) fn start(
        wanted: Forwarder,
        steering: &mut Steering,
        nics: &[Nic],
        now: NowMs,
    ) -> anyhow::Result<Self> {
        let wanted = wanted == Forwarder::Xdp;
        let mut forwarding = Self { wanted, obstacle: None, asked: now };
        if let (true, Some(link)) = (wanted, nics.last()) {
            steering.set_forward_link(link.ifindex)?;
            forwarding.obstacle = obstacle(nics);
        }
        if let Some(obstacle) = &forwarding.obstacle {
            tracing::warn!("{obstacle}");
        }
        Ok(forwarding)
    }

    /// The memory workers publish in; `None` with `--forwarder worker`.
    pub(super) fn words(&self, steering: &Steering) -> Option<SharedWords> {
        self.wanted.then(|| SharedWords::new(steering.forwards()))
    }

    /// Who redirects established flows' packets now, and why it is not who should.
    pub(super) fn state(&self) -> (Forwarder, Option<&str>) {
        match (self.wanted, &self.obstacle) {
            (true, None) => (Forwarder::Xdp, None),
            (_, obstacle) => (Forwarder::Worker, obstacle.as_deref()),
        }
    }
}

impl Node {
    /// Who redirects established flows' packets now. While somebody looks on, workers do: nobody sees what the program does.
    pub(super) fn forwarder_now(&self) -> Forwarder {
        match self.forwarding.state().0 {
            Forwarder::Xdp if self.watches.are_open() => Forwarder::Worker,
            forwarder => forwarder,
        }
    }

    /// From now on entries of the present view are followed, if at all. To be called after `self.view` or
    /// `self.settings` changed and before workers are told.
    pub(super) fn set_forwarder(&mut self) -> anyhow::Result<()> {
        if !self.settings.aggregation || self.forwarder_now() == Forwarder::Worker {
            self.steering.close_forwarder();
            return Ok(());
        }
        let mtu = self.nics.last().map_or(0, |nic| nic.mtu);
        let peers: Vec<_> =
            self.view.peers.iter().map(|peer| forward_peer(peer, &self.view, &self.settings, mtu)).collect();
        Ok(self.steering.open_forwarder(self.view.epoch, &peers)?)
    }

    /// Looks again whether the drivers do what the forwarder needs.
    pub(super) fn watch_forwarder(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        if !self.forwarding.wanted || now.since(self.forwarding.asked) < ASK_AGAIN.as_millis() as u64 {
            return Ok(());
        }
        self.forwarding.asked = now;
        let obstacle = obstacle(&self.nics);
        if obstacle == self.forwarding.obstacle {
            return Ok(());
        }
        match &obstacle {
            Some(obstacle) => tracing::warn!("{obstacle}"),
            None => tracing::info!("the XDP program redirects established flows by itself"),
        }
        self.forwarding.obstacle = obstacle;
        self.set_forwarder()
    }
}

/// Why the program cannot redirect to the cluster link.
fn obstacle(nics: &[Nic]) -> Option<String> {
    if let Some(nic) = nics.iter().find(|nic| nic.xdp_mode != "native") {
        return Some(format!(
            "--forwarder xdp needs native XDP and {} runs in {} mode: workers redirect instead",
            nic.name, nic.xdp_mode
        ));
    }
    let link = nics.iter().find(|nic| nic.role == PortRole::ClusterLink)?;
    let name = &link.name;
    match takes_redirected_frames(link.ifindex) {
        Ok(Some(true)) => None,
        Ok(Some(false)) => Some(format!(
            "--forwarder xdp: the driver of {name} does not send frames that XDP redirects to it (a veth does when \
             its other end has GRO: `ethtool -K PEER gro on`): workers redirect instead"
        )),
        Ok(None) => Some(format!(
            "--forwarder xdp: this kernel cannot say whether the driver of {name} sends frames that XDP redirects to \
             it (Linux 6.3 can): workers redirect instead"
        )),
        Err(error) => Some(format!(
            "--forwarder xdp: the kernel does not say what the driver of {name} can ({error}): workers redirect instead"
        )),
    }
}

/// What stands in front of packets to a peer; `None` while its link address or a key is not known.
fn forward_peer(peer: &Peer, view: &View, settings: &Settings, mtu: u32) -> Option<ForwardPeer> {
    const ETHERNET: u32 = 14;
    let headers = forwards::headers_to(peer, view, settings.cluster)?;
    let largest = (mtu + ETHERNET).saturating_sub(headers.len() as u32).min(u32::from(u16::MAX)) as u16;
    let key_half = peer.key.as_ref()?.key.forwarder_half();
    Some(ForwardPeer { headers, largest, key_half })
}
