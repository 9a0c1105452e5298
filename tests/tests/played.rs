//! Captures nobody here wrote, played through a cluster over real links, the two directions of each at two nodes, and
//! beside it through a plain Linux router: what the router forwards comes out of the cluster unchanged and in order, or
//! has a reason not to.

#[path = "played/cluster.rs"]
mod cluster;
#[path = "played/compare.rs"]
mod compare;
#[path = "captures/files.rs"]
mod files;
#[path = "played/packet.rs"]
mod packet;
#[path = "played/place.rs"]
mod place;
#[path = "played/router.rs"]
mod router;
#[path = "played/split.rs"]
mod split;
#[path = "played/table.rs"]
mod table;

use anyhow::{Context, Result, ensure};

use cluster::Cluster;
use router::Router;
use split::Round;
use table::Table;

/// With `SAMEPATH_PLAYED=all` everything is played; otherwise captures of at most this many frames, and of these what
/// fits into one round.
const A_PART: usize = 100;

/// Plays one round through both.
fn play(round: &Round, router: &mut Router, cluster: &mut Cluster, table: &mut Table) -> Result<()> {
    router.route(&round.sides)?;
    let forwarded: Vec<_> =
        round.captures.iter().map(|capture| router.play(capture)).collect::<Result<_>>()?;
    let mut session = cluster.begin(&round.sides)?;
    let crossings: Vec<_> =
        round.captures.iter().map(|capture| session.play(capture)).collect::<Result<_>>()?;
    let (out, answered) = session.end()?;
    let mut answers = 0;
    for ((capture, forwarded), crossing) in round.captures.iter().zip(&forwarded).zip(&crossings) {
        let row = compare::compare(capture, forwarded, crossing, &out);
        match row.and_then(|row| row.explained(&capture.name)) {
            Ok(row) => {
                answers += row.answered;
                table.add(&capture.name, row);
            }
            Err(error) => table.fault(format!("{}: {error:#}", capture.name)),
        }
    }
    if table.faults().is_empty() {
        ensure!(answers == answered, "{answers} answers came out, the nodes count {answered}");
    }
    Ok(())
}

#[test]
fn what_a_router_forwards_of_captures_comes_out_of_two_nodes() -> Result<()> {
    let Some(folder) = files::folder("captures split over two nodes") else { return Ok(()) };
    let all = std::env::var_os("SAMEPATH_PLAYED").is_some_and(|value| value == "all");
    let mut cluster = Cluster::new()?;
    let mut router = Router::new()?;
    let played = split::captures(&folder, cluster.scratch(), if all { usize::MAX } else { A_PART })?;
    let rounds = if all { &played.rounds[..] } else { &played.rounds[..1] };
    let mut table = Table::default();
    for (number, round) in rounds.iter().enumerate() {
        play(round, &mut router, &mut cluster, &mut table)
            .with_context(|| format!("round {} of {}", number + 1, rounds.len()))?;
    }
    println!("{}", table.summary());
    println!(
        "{} rounds; {} of {} captures with Ethernet, {} frames too long or too short for a link of MTU 1500; {} overtaken",
        rounds.len(),
        table.captures(),
        played.totals.ethernet_files,
        played.unsendable,
        table.overtaken()
    );
    let file = cluster.logs().join("table.md");
    std::fs::write(&file, table.text())?;
    println!("a row for each capture: {}", file.display());
    ensure!(table.faults().is_empty(), "{}", table.faults().join("\n"));
    ensure!(table.captures() > 100, "too few captures to mean anything");
    router.remove()?;
    cluster.remove()
}
