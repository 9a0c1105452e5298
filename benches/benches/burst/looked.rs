//! What it costs a worker that somebody looks on: packets per second with a filter that lets nothing through, and with one
//! that lets everything through, beside nobody, by role.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use samepath_dataplane::bench::{BURST, Family, NOW, Role, Stage};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::watch::{End, Filter, Watch};

/// Sessions, as where instructions are counted.
const SESSIONS: u32 = 8192;

/// Bursts of one measurement, and measurements of each case; they take turns and the median ratio counts.
const TURNS: u32 = 4000;
const REPETITIONS: usize = 15;

/// Slots and bytes of a capture that is told nothing else.
const SLOTS: usize = 1024;
const SNAP: usize = 4096;

/// One whose turns are measured; its time goes on with the work it has done.
struct Looked {
    stage: Stage,
    watch: Option<Arc<Watch>>,
    worked: Duration,
    written_down: u64,
}

impl Looked {
    fn new(role: Role, filter: Option<Filter>) -> Self {
        let stage = Stage::set(role, Family::V4, SESSIONS);
        let watch = filter.map(|filter| Arc::new(Watch::new(&[filter], SNAP, SLOTS)));
        stage.node.look(watch.clone());
        Self { stage, watch, worked: Duration::ZERO, written_down: 0 }
    }

    /// Time inside the turns of [`TURNS`] bursts. Slots are emptied outside, as control does on another core.
    fn measure(&mut self) -> Duration {
        let before = self.worked;
        for _ in 0..TURNS {
            self.stage.arrive();
            let now = NowMs(NOW.0 + self.worked.as_millis() as u64);
            let start = Instant::now();
            self.stage.node.step_at(now);
            self.worked += start.elapsed();
            self.stage.clear();
            self.empty();
        }
        self.worked - before
    }

    fn empty(&mut self) {
        let Some(watch) = &self.watch else { return };
        while let Some(sighting) = watch.take() {
            self.written_down += 1;
            watch.give_back(sighting);
        }
    }
}

fn address(text: [u8; 4], bits: u8, port: Option<u16>) -> End {
    let mut prefix = [0; 16];
    prefix[10..12].fill(0xff);
    prefix[12..].copy_from_slice(&text);
    End { prefix, length: 96 + bits, port }
}

/// Measures and prints.
pub(crate) fn run() -> ExitCode {
    let nobody = Filter { to: address([203, 0, 113, 9], 32, Some(9)), both_ways: true, ..Filter::default() };
    let everything = Filter::default();
    println!(
        "{:<10} {:<12} {:>8} {:>8} {:>12} {:>14}",
        "role", "looked at", "Mpps", "ratio", "written down", "µs each"
    );
    for role in [Role::Local, Role::Ingress, Role::Owner, Role::Director] {
        let cases = [("off", None), ("nothing", Some(nobody)), ("everything", Some(everything))];
        let mut stages = cases.map(|(_, filter)| Looked::new(role, filter));
        let mut spent = [const { Vec::new() }; 3];
        for _ in 0..REPETITIONS {
            for (stage, spent) in stages.iter_mut().zip(&mut spent) {
                spent.push(stage.measure());
            }
        }
        for (at, (name, _)) in cases.iter().enumerate() {
            let mut ratios: Vec<f64> = spent[0]
                .iter()
                .zip(&spent[at])
                .map(|(off, on)| off.as_secs_f64() / on.as_secs_f64())
                .collect();
            ratios.sort_by(f64::total_cmp);
            let packets = f64::from(TURNS) * BURST as f64 * REPETITIONS as f64;
            let all: Duration = spent[at].iter().sum();
            let more = all.as_secs_f64() - spent[0].iter().sum::<Duration>().as_secs_f64();
            let written = stages[at].written_down;
            let each = if written > 0 { format!("{:.2}", more * 1e6 / written as f64) } else { "-".into() };
            println!(
                "{:<10} {name:<12} {:>8.2} {:>8.3} {written:>12} {each:>14}",
                role.name(),
                packets / all.as_secs_f64() / 1e6,
                ratios[REPETITIONS / 2],
            );
        }
    }
    ExitCode::SUCCESS
}
