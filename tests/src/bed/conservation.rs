//! Nothing is lost uncounted: what came in is what went out plus what was dropped for a named reason.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Bed;
use crate::cli::Stats;
use crate::{link, program, wait};

/// How long the counters may take to come to rest after the last packet.
const REST: Duration = Duration::from_secs(15);

/// Interfaces of a node that carry the XDP program; those of services are called like [`super::SERVICE_PORT`].
const PORTS: [&str; 3] = ["inside", "outside", "cluster"];

/// Everything one node has counted at one moment: no frame arrived while it was read.
#[derive(Clone, Debug)]
pub struct Account {
    /// Packets the kernel received on the node's interfaces since they were made.
    pub interfaces_rx: u64,
    /// What the node says.
    pub stats: Stats,
}

impl Bed {
    /// Reads a node's counters at a moment at which no frame arrives.
    pub fn account(&self, number: u8) -> Result<Account> {
        wait::until(&format!("node {number}'s counters rest"), REST, || self.try_account(number))
    }

    /// Checks that every frame and packet of a node is accounted for, since it became ready:
    ///
    /// - frames in kernel + in hand + free = total, none held;
    /// - packets taken from the rings + fragments made of them + ends prompted = packets sent + packets dropped by reason;
    /// - packets sent to their Owner = verdicts of workers + frames the XDP program redirected;
    /// - frames the XDP program steered = packets taken from the rings + Hello messages + what the rings refused;
    /// - frames the kernel received = the XDP program's outcomes.
    ///
    /// An imbalance must still be there at the deadline to be an error, so that a packet on its way is none.
    pub fn conservation(&self, number: u8) -> Result<()> {
        let before_start = self.books(number)?;
        wait::until_true(&format!("node {number}'s counters balance"), REST, || {
            let Some(account) = self.try_account(number)? else {
                return Ok(false);
            };
            account.balance(before_start)?;
            Ok(true)
        })
    }

    /// True if a node's workers have taken every frame from their receive rings. A worker that does not get
    /// a core for a while falls behind; who sends much asks this in between, or a ring overflows.
    pub fn rings_are_empty(&self, number: u8) -> Result<bool> {
        let stats: Stats = self.cli(number)?.ask("stats")?;
        Ok(stats.steered() == stats.taken_or_refused())
    }

    /// [`Bed::conservation`] of every running node.
    pub fn conservation_everywhere(&self) -> Result<()> {
        self.running().into_iter().try_for_each(|number| self.conservation(number))
    }

    /// The end of a good test: everything balances, every node stops cleanly and leaves nothing
    /// attached, the bed goes.
    pub fn finish(mut self) -> Result<()> {
        self.finish_nodes()?;
        self.remove()
    }

    /// [`Bed::finish`] without removing the bed.
    pub fn finish_nodes(&mut self) -> Result<()> {
        self.conservation_everywhere()?;
        let running = self.running();
        self.stop_nodes()?;
        for number in running {
            let left = self.attached(number)?;
            ensure!(left.is_empty(), "node {number} left attached: {left:?}");
        }
        Ok(())
    }

    /// BPF programs attached to interfaces of a node's namespace, as `bpftool net` lists them.
    pub fn attached(&self, number: u8) -> Result<Vec<String>> {
        let mut bpftool = self.node_namespace(number).command("bpftool");
        let answer: Value = serde_json::from_str(&program::run(bpftool.args(["-j", "net"]))?)?;
        let kinds = answer[0].as_object().context("bpftool net gave no table")?;
        let programs = kinds.iter().flat_map(|(kind, programs)| {
            programs.as_array().into_iter().flatten().map(move |program| format!("{kind} {program}"))
        });
        Ok(programs.collect())
    }

    /// Packets a node's interfaces had received when its XDP program began to count.
    pub(super) fn open_books(&self, number: u8) -> Result<u64> {
        let account = self.account(number)?;
        let outcomes: u64 = account.stats.xdp.values().sum();
        account.interfaces_rx.checked_sub(outcomes).with_context(|| {
            format!(
                "node {number}: {outcomes} XDP outcomes but only {} frames received",
                account.interfaces_rx
            )
        })
    }

    fn try_account(&self, number: u8) -> Result<Option<Account>> {
        let before = self.interfaces_rx(number)?;
        let stats = self.cli(number)?.ask("stats")?;
        let after = self.interfaces_rx(number)?;
        Ok((before == after).then_some(Account { interfaces_rx: after, stats }))
    }

    fn interfaces_rx(&self, number: u8) -> Result<u64> {
        let links = link::all_counters(self.node_namespace(number))?;
        let services = links.get(super::SERVICE_PORT).map_or(0, |port| port.rx_packets);
        let of = |port: &&str| Ok(links.get(*port).context("an interface is missing")?.rx_packets);
        let sum: u64 = PORTS.iter().map(of).sum::<Result<u64>>()?;
        Ok(sum + services)
    }
}

impl Account {
    /// Checks the equations of [`Bed::conservation`]; `before_start` is what the interfaces had received
    /// when the XDP program began to count.
    pub fn balance(&self, before_start: u64) -> Result<()> {
        let stats = &self.stats;
        let frames = &stats.frames;
        ensure!(
            frames.kernel + frames.hand + frames.free == frames.total && frames.total > 0,
            "frames do not add up: {frames:?}"
        );
        ensure!(stats.held == 0, "{} packets are still held", stats.held);
        ensure!(
            stats.rx + stats.fragments_made + stats.prompted == stats.tx + stats.dropped(),
            "packets: rx {} + {} fragments made + {} prompted, but tx {} + drops {:?}",
            stats.rx,
            stats.fragments_made,
            stats.prompted,
            stats.tx,
            stats.drops.iter().filter(|(_, count)| **count > 0).collect::<Vec<_>>()
        );
        ensure!(
            stats.steered() == stats.taken_or_refused(),
            "steered {} frames, but rx {} + hello {} + {:?}",
            stats.steered(),
            stats.rx,
            stats.hello.rx,
            stats.rings
        );
        let by_workers = stats.verdicts.get("redirect").copied().unwrap_or(0);
        let by_xdp = stats.xdp_outcome("redirected");
        ensure!(
            stats.tunnel.redirect_tx == by_workers + by_xdp && stats.tunnel.redirect_tx_xdp == by_xdp,
            "redirected by workers {by_workers}, by XDP {by_xdp}, but {:?}",
            stats.tunnel
        );
        let outcomes: u64 = stats.xdp.values().sum();
        let received = self.interfaces_rx.saturating_sub(before_start);
        ensure!(
            outcomes == received,
            "the interfaces received {received} frames, the XDP program counts {outcomes}: {:?}",
            stats.xdp
        );
        Ok(())
    }
}
