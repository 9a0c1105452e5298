//! Figures as a person or a program reads them.

use std::io::{self, Write};

use samepath_dataplane::bench::BURST;

use super::plan::Plan;
use super::{Bench, Figure, SCOPE, Spread};

/// What is measured, and the columns.
pub(super) fn heading(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let cores: Vec<String> = plan.cores.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "samepath {}: one worker on core {}{}; each with {} sessions, bursts of {BURST} smallest TCP packets; median and range of {} measurements of {} s at most",
        env!("CARGO_PKG_VERSION"),
        cores[0],
        if cores.len() > 1 {
            format!(", then {} on cores {}", cores.len(), cores.join(","))
        } else {
            String::new()
        },
        plan.sessions,
        plan.repetitions,
        plan.time.as_secs_f64(),
    )?;
    let mut line = format!(
        "\n{:<9} {:<6} {:>7} {:>15} {:>10} {:>17} {:>7}",
        "role", "family", "Mpps", "range", "ns/packet", "range", "cycles"
    );
    if cores.len() > 1 {
        line.push_str(&format!(
            " {:>13} {:>9} {:>11}",
            format!("{} workers", cores.len()),
            "over one",
            "range"
        ));
    }
    writeln!(out, "{line}")?;
    out.flush()
}

/// One case.
pub(super) fn row(figure: &Figure, out: &mut impl Write) -> io::Result<()> {
    let range = |spread: Spread, digits| format!("{:.digits$}-{:.digits$}", spread.lowest, spread.highest);
    let cycles =
        figure.cycles_per_packet.map_or_else(|| "-".into(), |cycles| format!("{:.0}", cycles.median));
    let mut line = format!(
        "{:<9} {:<6} {:>7.3} {:>15} {:>10.1} {:>17} {cycles:>7}",
        figure.role,
        figure.family,
        figure.mpps.median,
        range(figure.mpps, 3),
        figure.ns_per_packet.median,
        range(figure.ns_per_packet, 1),
    );
    if let Some(together) = &figure.together {
        line.push_str(&format!(
            " {:>8.3} Mpps {:>9.2} {:>11}",
            together.mpps.median,
            together.over_one.median,
            range(together.over_one, 2)
        ));
    }
    writeln!(out, "{line}")?;
    out.flush()
}

/// What it is not.
pub(super) fn scope(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nThis is {SCOPE}.")?;
    out.flush()
}

/// One document.
pub(super) fn json(bench: &Bench, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, bench)?;
    writeln!(out)?;
    out.flush()
}
