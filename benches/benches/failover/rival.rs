//! A machine dies, with its links: a cluster of three, and two kernel firewalls with conntrackd and keepalived.

use std::time::Duration;

use anyhow::Result;
use samepath_benches::firewall_pair::{FirewallPair, Paths};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::failover::{Stage, Traffic};
use samepath_tests::scenario::kept::{Kept, start_echo};
use samepath_tests::traffic::lasting::Told;
use serde::Serialize;

/// Who has no answer for so long after the death has lost its session. TCP repeats after 0.2, 0.6, 1.4, 3, 6.2 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// How soon a death is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// What each does unasked: `--peer-timeout-ms` 800; VRRP every second, so 3.6 s.
    Default,
    /// 100 ms for both: `--peer-timeout-ms 100`; VRRP every 30 ms.
    Fast,
}

impl Setting {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Fast => &["--hello-interval-ms", "20", "--peer-timeout-ms", "100"],
        }
    }

    fn advert(self) -> f64 {
        match self {
            Self::Default => 1.0,
            Self::Fast => 0.03,
        }
    }
}

/// What a play is called.
pub fn name(setting: Setting, paths: Paths) -> String {
    format!("machine-{setting:?}-{paths:?}").to_lowercase()
}

/// What could be told, and the sessions the backup knew; the outer error is of the preparation.
pub type Played = Result<(u64, Result<Told>)>;

/// The Owner's machine dies.
pub fn of_samepath(setting: Setting, paths: Paths, traffic: Traffic) -> Played {
    let mut stage = Stage::set(Bed::new("bench-failover-machine", Shape::default())?, setting.flags())?;
    let asymmetric = paths == Paths::Asymmetric;
    let mut kept = stage.prepare_machine(asymmetric, traffic)?;
    let known = (kept.tell()?.tcp + traffic.udp) as u64;
    let told = stage.lose_machine(asymmetric, &mut kept, PATIENCE);
    drop((kept, stage.strike()));
    Ok((known, told))
}

/// The active firewall's machine dies, or, asymmetric, the one that serves packets to the server.
pub fn of_conntrackd(setting: Setting, paths: Paths, traffic: Traffic) -> Played {
    let bed = Bed::new("bench-failover-pair", Shape::default())?;
    let mut pair = FirewallPair::start(&bed, paths, setting.advert())?;
    let ends = (plan::client(Family::V4, 0), plan::server(Family::V4, 0));
    let echo = start_echo(&bed, &[ends.1])?;
    let mut kept = Kept::open(&bed, (&[ends.0], &[ends.1]), traffic)?;
    let known = pair.wait_synced(&bed, (kept.tell()?.tcp + traffic.udp) as u64)?;
    std::thread::sleep(Duration::from_millis(700));
    kept.mark()?;
    std::thread::sleep(Duration::from_millis(700));
    let told = pair.lose_first(&bed).and_then(|()| kept.settle(PATIENCE));
    if !pair.has_taken_over(&bed)? {
        println!("the second firewall has not taken both addresses");
    }
    drop((kept, echo, pair));
    Ok((known, told))
}
