//! What a packet costs as sessions and peers grow: CPU time per packet over memory ports.

use samepath_benches::conversation::Family;
use samepath_benches::report::{Bar, Report, Summary};
use samepath_benches::roles::{Role, Stage};
use serde_json::{Value, json};

use crate::time;

/// Sessions in the table.
const SESSIONS: [u32; 6] = [1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 24];

/// Peers of the node.
const PEERS: [u16; 5] = [2, 3, 5, 9, 15];

/// Sessions while peers are varied.
const SESSIONS_BESIDE_PEERS: u32 = 1 << 16;

fn row(what: &str, number: u32, role: Role, rate: time::Rate) -> Value {
    let ns = 1000.0 / rate.median;
    println!("{:<10} {number:>9} {what:<10} {ns:>8.1} ns per packet", role.name());
    json!({ "role": role.name(), what: number, "ns": ns })
}

/// Prints and gives the rows of both plots.
pub(crate) fn measure() -> Value {
    let sessions: Vec<Value> = SESSIONS
        .into_iter()
        .map(|count| {
            let mut stage = Stage::set(Role::Local, Family::V4, count);
            row("sessions", count, Role::Local, time::of_stage(&mut stage))
        })
        .collect();
    let peers: Vec<Value> = PEERS
        .into_iter()
        .flat_map(|count| {
            [Role::Ingress, Role::Owner].map(|role| {
                let mut stage = Stage::among(role, Family::V4, SESSIONS_BESIDE_PEERS, count + 1);
                row("peers", count.into(), role, time::of_stage(&mut stage))
            })
        })
        .collect();
    json!({ "sessions": sessions, "peers": peers })
}

/// Draws `target/bench/burst-sessions.svg` and `burst-peers.svg`.
pub(crate) fn plot(figures: &Value) -> anyhow::Result<()> {
    let report = Report::new("burst")?;
    for (what, title) in
        [("sessions", "Cost of a packet over sessions"), ("peers", "Cost of a packet over peers")]
    {
        let rows = figures[what].as_array().into_iter().flatten();
        let bars: Vec<Bar> = rows
            .filter_map(|row| {
                let role = row["role"].as_str()?;
                let summary = Summary::of([row["ns"].as_f64()?])?;
                let label = format!("{role}, {} {what}", row[what]);
                Some(Bar { label, group: role.len() % 6, summary })
            })
            .collect();
        report.plot(what, title, "ns of CPU per packet", &bars)?;
    }
    Ok(())
}
