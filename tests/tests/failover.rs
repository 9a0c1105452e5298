//! Whatever happens to a node, no connection breaks whose session a live node holds.

use anyhow::{Result, ensure};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::failover::{Case, Stage, Traffic};

/// A round of cases over one bed.
fn cases(name: &str, cases: &[Case]) -> Result<()> {
    play(Stage::set(Bed::new(name, Shape::default())?, &[])?, cases)
}

fn play(mut stage: Stage, cases: &[Case]) -> Result<()> {
    for &case in cases {
        let told = stage.play(case, Traffic::default())?;
        println!(
            "{}: silence of TCP at most {:.0} ms, of UDP {:.0} ms; broken {:?}",
            case.name(),
            told.tcp_silence_ms.last().unwrap_or(&0.0),
            told.udp_silence_ms.last().unwrap_or(&0.0),
            told.broken
        );
        ensure!(told.broken.is_empty() && told.silent == 0, "{}: {told:?}", case.name());
    }
    stage.strike().finish()
}

#[test]
fn backups_take_over_when_nodes_die() -> Result<()> {
    cases("failover-deaths", &[Case::OwnerKilled, Case::DirectorKilled, Case::OwnerAndDirectorKilled])
}

#[test]
fn with_etcd_deaths_and_cuts_break_nothing_and_etcd_itself_may_die() -> Result<()> {
    let stage = Stage::set_with_etcd(Bed::new("failover-etcd", Shape::default())?)?;
    play(stage, &[Case::OwnerKilled, Case::LinkCut, Case::EtcdAway])
}

#[test]
fn a_node_that_sleeps_or_is_cut_off_breaks_nothing_when_it_is_back() -> Result<()> {
    cases(
        "failover-cuts",
        &[Case::OwnerPaused, Case::LinkCut, Case::LinkCutTowardsOwner, Case::LinkCutFromOwner],
    )
}

#[test]
fn an_owner_without_its_data_link_gives_its_flows_to_others() -> Result<()> {
    cases("failover-data-link", &[Case::DataLinkDown])
}

#[test]
fn a_node_is_drained_and_all_are_restarted_without_losing_a_packet() -> Result<()> {
    let mut stage = Stage::set(Bed::new("failover-drain", Shape::default())?, &[])?;
    for case in [Case::OwnerDrained, Case::PlannedRestart] {
        let told = stage.play(case, Traffic::default())?;
        let lost = told.udp_sent.saturating_sub(told.udp_answers);
        println!(
            "{}: silence at most {:.0} ms, {lost} of {} datagrams lost",
            case.name(),
            told.udp_silence_ms.last().unwrap_or(&0.0),
            told.udp_sent
        );
        // Those of the last moment are on their way: up to three of each flow.
        ensure!(
            told.broken.is_empty() && lost <= 3 * told.udp_silence_ms.len() as u64,
            "{}: {told:?}",
            case.name()
        );
    }
    stage.strike().finish()
}

#[test]
fn a_cluster_goes_from_one_ca_to_the_next_without_losing_a_packet() -> Result<()> {
    let mut stage = Stage::set(Bed::new("failover-keys", Shape::default())?, &[])?;
    let told = stage.play(Case::CaReplaced, Traffic::default())?;
    let lost = told.udp_sent.saturating_sub(told.udp_answers);
    println!("{lost} of {} datagrams lost", told.udp_sent);
    ensure!(told.broken.is_empty() && lost <= 3 * told.udp_silence_ms.len() as u64, "{told:?}");
    stage.strike().finish()
}

#[test]
fn a_worker_that_makes_a_forbidden_system_call_ends_its_node_and_no_connection() -> Result<()> {
    cases("failover-forbidden", &[Case::OwnerForbidden])
}

#[test]
fn nodes_that_restart_lose_nothing() -> Result<()> {
    cases("failover-restarts", &[Case::OwnerRestarted, Case::RollingRestart])
}
