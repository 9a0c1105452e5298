//! What a packet costs as sessions and peers grow: CPU time per packet over memory ports.

use samepath_benches::report::{Bar, Summary, chart};
use samepath_dataplane::bench::{Family, Rate, Role, Stage};
use serde_json::{Value, json};

use crate::time;

/// Sessions in the table.
const SESSIONS: [u32; 7] = [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 24];

/// Peers of the node.
const PEERS: [u16; 5] = [2, 3, 5, 9, 15];

/// Sessions while peers are varied.
const SESSIONS_BESIDE_PEERS: u32 = 1 << 16;

/// A point of a plot.
struct Point {
    what: &'static str,
    number: u32,
    role: Role,
    /// ns per packet.
    cost: Summary,
}

impl Point {
    fn new(what: &'static str, number: u32, role: Role, rate: Rate) -> Self {
        let [median, lowest, highest] = [rate.median, rate.highest, rate.lowest].map(|mpps| 1000.0 / mpps);
        println!("{:<10} {number:>9} {what:<10} {median:>8.1} ns per packet", role.name());
        Self { what, number, role, cost: Summary { median, lowest, highest, repetitions: time::REPETITIONS } }
    }

    fn value(&self) -> Value {
        json!({ "role": self.role.name(), self.what: self.number, "ns": self.cost.median,
            "lowest": self.cost.lowest, "highest": self.cost.highest })
    }

    fn bar(&self) -> Bar {
        let label = format!("{}, {} {}", self.role.name(), self.number, self.what);
        Bar { label, group: usize::from(self.role == Role::Owner), summary: self.cost.clone() }
    }
}

fn draw(points: &[Point], part: &str, title: &str) {
    let bars: Vec<Bar> = points.iter().map(Point::bar).collect();
    if let Err(error) = chart(&format!("growth-{part}"), title, "ns of CPU time per packet", &bars) {
        eprintln!("burst: {error:#}");
    }
}

/// Prints and gives the rows of both plots.
pub(crate) fn measure() -> Value {
    let sessions: Vec<Point> = SESSIONS
        .into_iter()
        .map(|count| {
            let mut stage = Stage::set(Role::Local, Family::V4, count);
            Point::new("sessions", count, Role::Local, time::of_stage(&mut stage))
        })
        .collect();
    let peers: Vec<Point> = PEERS
        .into_iter()
        .flat_map(|count| {
            [Role::Ingress, Role::Owner].map(|role| {
                let mut stage = Stage::among(role, Family::V4, SESSIONS_BESIDE_PEERS, count + 1);
                Point::new("peers", count.into(), role, time::of_stage(&mut stage))
            })
        })
        .collect();
    draw(&sessions, "sessions", "A local packet as sessions grow");
    draw(&peers, "peers", "A redirected packet as peers grow");
    let values = |points: &[Point]| points.iter().map(Point::value).collect::<Vec<Value>>();
    json!({ "sessions": values(&sessions), "peers": values(&peers) })
}
