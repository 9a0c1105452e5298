//! Traced packets as a person reads them.

use std::io::{self, Write};

use super::{Trace, Traced};

/// All packets.
pub(in crate::operator) fn trace(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    trace.packets.iter().try_for_each(|traced| packet(traced, out))
}

/// A line for the packet, and one for each of its steps.
pub(super) fn packet(traced: &Traced, out: &mut impl Write) -> io::Result<()> {
    let Traced { number, at_us, flow, says, complete, steps } = traced;
    let flow = flow.as_ref().map_or_else(|| "a packet that cannot be read".to_owned(), ToString::to_string);
    let says = if says.is_empty() { String::new() } else { format!(" {says}") };
    let length = steps.first().map_or(0, |step| step.seen.length);
    writeln!(out, "packet {number}  {}  {flow}{says}, {length} bytes", time(*at_us))?;
    for step in steps {
        writeln!(out, "{:>8} µs  node {}: {}", step.after_us, step.node, step.told)?;
        if step.clock_behind_us > 0 {
            writeln!(
                out,
                "             its clock is behind by {} µs at least: set the nodes' clocks by one source",
                step.clock_behind_us
            )?;
        }
    }
    if !complete {
        writeln!(out, "             what came then was not seen")?;
    }
    writeln!(out)
}

/// Time of day, UTC.
fn time(at_us: u64) -> String {
    let (seconds, micros) = (at_us / 1_000_000 % 86_400, at_us % 1_000_000);
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
