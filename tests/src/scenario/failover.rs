//! What goes wrong with nodes, under traffic that lasts: ssh-like TCP connections, UDP flows, a download (curl from nginx)
//! and a transfer the other way (iperf3), all on split paths. Whoever holds a connection must not notice more than a silence.
//!
//! Every flow begins through node 1 (its Owner) and node 3, its Director is node 2, its backups are on 2 and 3. Then
//! the routers move the paths away from the nodes a case is going to harm, as ECMP does when a next hop changes. So
//! what is measured is samepath, not the routers.

use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::bed::plan::{Family, NODES};
use crate::bed::{Bed, Service};
use crate::cli::Roles;
use crate::scenario::etcd;
use crate::scenario::iperf::Iperf;
use crate::scenario::kept::{Kept, start_echo};
use crate::scenario::keys;
use crate::stopped::Stopped;
use crate::traffic::lasting::Told;
use crate::wait;
use crate::web::{Download, Web};

pub use crate::scenario::kept::Traffic;

/// How long backups may take.
const BACKED_UP: Duration = Duration::from_secs(30);

/// How long nodes may take to see that etcd is gone, or is there.
const NOTICED: Duration = Duration::from_secs(15);

/// Traffic before anything happens.
const ORDINARY: Duration = Duration::from_millis(700);

/// The download's bytes per second: it lasts longer than any case.
const DOWNLOAD_RATE: &str = "3M";

/// The transfer's bits per second: beside everything else, on machines of any speed.
const TRANSFER_RATE: &str = "4M";

/// What happens to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// SIGKILL to the Owner of all flows.
    OwnerKilled,
    /// SIGKILL to the Director of all flows.
    DirectorKilled,
    /// SIGKILL to both.
    OwnerAndDirectorKilled,
    /// The Owner gets no processor for a while, then goes on with what it believed.
    OwnerPaused,
    /// The Owner's cluster link is cut for a while, both ways.
    LinkCut,
    /// The Owner hears nobody for a while but is heard.
    LinkCutTowardsOwner,
    /// The Owner hears everybody for a while but is not heard.
    LinkCutFromOwner,
    /// The Owner's link towards the server is down for a while.
    DataLinkDown,
    /// SIGKILL to the Owner, which starts again at once and knows nothing.
    OwnerRestarted,
    /// A worker of the Owner makes a system call that none of them needs: the kernel kills the process, and it starts
    /// again as after any other death.
    OwnerForbidden,
    /// The Owner is drained while packets still arrive there, and takes flows again later.
    OwnerDrained,
    /// All nodes are stopped and started in turn, as for an upgrade that nobody announced.
    RollingRestart,
    /// All nodes leave (`samepath leave`) and are started again in turn, as for a planned upgrade.
    PlannedRestart,
    /// The cluster goes from one CA to the next: new certificates, SIGHUP, no restart.
    CaReplaced,
    /// The etcd of a [`Stage::set_with_etcd`] is killed, and started again after a while.
    EtcdAway,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::OwnerKilled,
        Self::DirectorKilled,
        Self::OwnerAndDirectorKilled,
        Self::OwnerPaused,
        Self::LinkCut,
        Self::LinkCutTowardsOwner,
        Self::LinkCutFromOwner,
        Self::DataLinkDown,
        Self::OwnerRestarted,
        Self::OwnerForbidden,
        Self::OwnerDrained,
        Self::RollingRestart,
        Self::PlannedRestart,
        Self::CaReplaced,
        Self::EtcdAway,
    ];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnerKilled => "owner-killed",
            Self::DirectorKilled => "director-killed",
            Self::OwnerAndDirectorKilled => "owner-and-director-killed",
            Self::OwnerPaused => "owner-paused",
            Self::LinkCut => "link-cut",
            Self::LinkCutTowardsOwner => "link-cut-towards-owner",
            Self::LinkCutFromOwner => "link-cut-from-owner",
            Self::DataLinkDown => "data-link-down",
            Self::OwnerRestarted => "owner-restarted",
            Self::OwnerForbidden => "owner-forbidden",
            Self::OwnerDrained => "owner-drained",
            Self::RollingRestart => "rolling-restart",
            Self::PlannedRestart => "planned-restart",
            Self::CaReplaced => "ca-replaced",
            Self::EtcdAway => "etcd-away",
        }
    }

    /// Forward and return path while it happens: not through a node that is harmed.
    fn paths(self) -> (u8, u8) {
        match self {
            Self::DirectorKilled | Self::OwnerDrained | Self::CaReplaced | Self::EtcdAway => (1, 3),
            Self::OwnerAndDirectorKilled => (3, 3),
            _ => (2, 3),
        }
    }

    /// Makes it happen and mends what does not mend itself. Killed nodes stay dead.
    fn happen(self, bed: &mut Bed, etcd: &mut Option<Service>, extra: &[&str], harm: Duration) -> Result<()> {
        match self {
            Self::EtcdAway => lose_etcd(bed, etcd.as_mut().context("this bed has no etcd")?, harm),
            Self::OwnerKilled => bed.kill_node(1),
            Self::DirectorKilled => bed.kill_node(2),
            Self::OwnerAndDirectorKilled => {
                bed.kill_node(1)?;
                bed.kill_node(2)
            }
            Self::OwnerPaused => {
                bed.signal_node(1, Signal::SIGSTOP)?;
                for_a_while(harm);
                bed.signal_node(1, Signal::SIGCONT)
            }
            Self::LinkCut => cut_for_a_while(bed, true, true, harm),
            Self::LinkCutTowardsOwner => cut_for_a_while(bed, true, false, harm),
            Self::LinkCutFromOwner => cut_for_a_while(bed, false, true, harm),
            Self::DataLinkDown => {
                bed.router_b().ip("link set n1 down\n")?;
                for_a_while(harm);
                bed.mend_data_link(1)
            }
            Self::OwnerRestarted => {
                bed.kill_node(1)?;
                bed.start_node(1, extra)
            }
            Self::OwnerForbidden => {
                make_forbidden_call(bed)?;
                bed.start_node(1, extra)
            }
            Self::OwnerDrained => {
                bed.cli(1)?.run(&["drain"])?;
                let owned = bed.stats(1)?.sessions.owner;
                ensure!(owned == 0, "a drained node owns {owned} sessions");
                bed.cli(1)?.run(&["undrain"]).map(drop)
            }
            Self::RollingRestart => restart_all(bed, extra, |bed, number| bed.stop_node(number).map(drop)),
            Self::PlannedRestart => restart_all(bed, extra, Bed::leave_node),
            Self::CaReplaced => keys::replace_ca(bed),
        }
    }
}

impl std::str::FromStr for Case {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|case| case.name() == name)
            .ok_or_else(|| format!("`{name}` is no case: {}", names()))
    }
}

/// A worker of node 1 opens a socket, as somebody would who had got hold of it: the process must end by SIGSYS.
fn make_forbidden_call(bed: &mut Bed) -> Result<()> {
    let process = bed.process(1)?;
    wait::until_true("a worker is in a system call", NOTICED, || {
        Stopped::thread(process, "sp-worker-0")?.swap_call(libc::SYS_socket)
    })?;
    let status = bed.ended(1)?;
    ensure!(status.signal() == Some(libc::SIGSYS), "node 1 ended with {status}");
    Ok(())
}

/// Every node in turn, its paths moved away before, as an operator does.
fn restart_all(bed: &mut Bed, extra: &[&str], end: fn(&mut Bed, u8) -> Result<()>) -> Result<()> {
    for (number, (forward, back)) in [(1, (2, 3)), (2, (1, 3)), (3, (1, 2))] {
        bed.forward_via(forward)?;
        bed.return_via(back)?;
        end(bed, number)?;
        bed.start_node(number, extra)?;
        bed.wait_members(NODES)?;
    }
    Ok(())
}

fn lose_etcd(bed: &Bed, server: &mut Service, harm: Duration) -> Result<()> {
    server.kill()?;
    wait::until_true("all nodes miss etcd", NOTICED, || etcd::all_say(bed, "etcd (away)"))?;
    for_a_while(harm);
    *server = etcd::start(bed)?;
    wait::until_true("etcd answers again", NOTICED, || etcd::all_say(bed, "etcd"))
}

/// Time that is part of a case.
fn for_a_while(time: Duration) {
    std::thread::sleep(time);
}

fn cut_for_a_while(bed: &Bed, towards: bool, from: bool, harm: Duration) -> Result<()> {
    bed.cut_cluster_link(1, towards, from)?;
    for_a_while(harm);
    bed.mend_cluster_link()
}

/// Who sees what a case does.
#[derive(Debug)]
pub struct Audience {
    kept: Kept,
    download: Download,
    transfer: Iperf,
}

/// A bed whose server answers.
#[derive(Debug)]
pub struct Stage {
    /// The bed, its three nodes running.
    pub bed: Bed,
    extra: Vec<String>,
    etcd: Option<Service>,
    pair: (IpAddr, IpAddr),
    web: Web,
    _echo: Service,
}

impl Stage {
    /// Starts nodes, with the same extra flags each, and servers.
    pub fn set(bed: Bed, extra: &[&str]) -> Result<Self> {
        Self::begin(bed, extra, None)
    }

    /// The same with an etcd that the nodes' membership is written in.
    pub fn set_with_etcd(bed: Bed) -> Result<Self> {
        etcd::prepare(&bed)?;
        let server = etcd::start(&bed)?;
        let membership = etcd::membership();
        let stage = Self::begin(bed, &["--membership", &membership], Some(server))?;
        wait::until_true("etcd answers all nodes", NOTICED, || etcd::all_say(&stage.bed, "etcd"))?;
        Ok(stage)
    }

    fn begin(mut bed: Bed, extra: &[&str], etcd: Option<Service>) -> Result<Self> {
        bed.start_nodes(extra)?;
        let pair = bed.director_on(2, Family::V4)?;
        let echo = start_echo(&bed, &[pair.1])?;
        let web = bed.start_web()?;
        let extra = extra.iter().map(ToString::to_string).collect();
        Ok(Self { bed, extra, etcd, pair, web, _echo: echo })
    }

    /// Lets a case happen under traffic; what the traffic saw of it. All nodes run again afterwards.
    pub fn play(&mut self, case: Case, traffic: Traffic) -> Result<Told> {
        let audience = self.prepare(case, traffic)?;
        let told = self.endure(case, traffic, audience)?;
        self.restore()?;
        Ok(told)
    }

    /// Traffic of a case, backed up and on the paths that the case leaves alone.
    pub fn prepare(&mut self, case: Case, traffic: Traffic) -> Result<Audience> {
        self.bed.forward_via(1)?;
        self.bed.return_via(3)?;
        let kept = Kept::open(&self.bed, (&[self.pair.0], &[self.pair.1]), traffic)?;
        let download = self.bed.begin_large_at(self.pair, DOWNLOAD_RATE)?;
        let transfer = Iperf::begin(&self.bed, self.pair, TRANSFER_RATE)?;
        self.wait_for_backups(traffic.flows())?;
        let (forward, back) = case.paths();
        self.bed.forward_via(forward)?;
        self.bed.return_via(back)?;
        for_a_while(ORDINARY);
        kept.mark()?;
        for_a_while(ORDINARY);
        Ok(Audience { kept, download, transfer })
    }

    /// Lets a case happen; what its traffic saw of it. An error is the case's, not its preparation's.
    pub fn endure(&mut self, case: Case, traffic: Traffic, mut audience: Audience) -> Result<Told> {
        let extra: Vec<&str> = self.extra.iter().map(String::as_str).collect();
        case.happen(&mut self.bed, &mut self.etcd, &extra, traffic.harm).with_context(|| case.name())?;
        let told = audience.kept.wait_for_calm().with_context(|| case.name())?;
        audience.download.check_unbroken().with_context(|| format!("{}: the download", case.name()))?;
        audience.transfer.end().with_context(|| format!("{}: the transfer", case.name()))?;
        Ok(told)
    }

    /// All nodes run again.
    pub fn restore(&mut self) -> Result<()> {
        let extra: Vec<&str> = self.extra.iter().map(String::as_str).collect();
        for number in 1..=NODES {
            if !self.bed.running().contains(&number) {
                self.bed.start_node(number, &extra)?;
            }
        }
        self.bed.wait_members(NODES)
    }

    /// Traffic on paths through the Owner's machine: both directions, or, `asymmetric`, only those to the server.
    pub fn prepare_machine(&mut self, asymmetric: bool, traffic: Traffic) -> Result<Kept> {
        let back = if asymmetric { 3 } else { 1 };
        self.bed.forward_via(1)?;
        self.bed.return_via(back)?;
        let keep = Kept::open(&self.bed, (&[self.pair.0], &[self.pair.1]), traffic)?;
        self.wait_for_backups(keep.tell()?.tcp + traffic.udp)?;
        for_a_while(ORDINARY);
        keep.mark()?;
        for_a_while(ORDINARY);
        Ok(keep)
    }

    /// The Owner's machine dies with all its links; both routers see the carrier go and take node 2 instead. Who has
    /// no answer after `patience` has lost its session. Node 1 is dead afterwards.
    pub fn lose_machine(&mut self, asymmetric: bool, keep: &mut Kept, patience: Duration) -> Result<Told> {
        self.bed.kill_node(1)?;
        self.bed
            .node_namespace(1)
            .ip("link set inside down\nlink set outside down\nlink set cluster down\n")?;
        self.bed.forward_via(2)?;
        if !asymmetric {
            self.bed.return_via(2)?;
        }
        keep.settle(patience)
    }

    /// Ends what runs besides the nodes.
    pub fn strike(self) -> Bed {
        drop((self.web, self._echo));
        self.bed
    }

    /// Nodes 2 and 3 have everything node 1 owns, in the state it is in.
    fn wait_for_backups(&self, flows: usize) -> Result<()> {
        wait::until_true("all sessions are backed up", BACKED_UP, || {
            let owner = self.bed.stats(1)?;
            // A flow whose first packet was sent again may have begun elsewhere.
            ensure!(owner.sessions.owner >= flows as u64 * 3 / 4, "{:?}", owner.sessions);
            ensure!(owner.replication.values().all(|peer| peer.lag_records == 0), "{:?}", owner.replication);
            let known = |roles: Roles| roles.backup + roles.owner;
            let backups = [known(self.bed.stats(2)?.sessions), known(self.bed.stats(3)?.sessions)];
            ensure!(backups.iter().all(|&count| count >= flows as u64), "{backups:?} sessions elsewhere");
            Ok(true)
        })
    }
}
