//! The table on the terminal and the JSON.

use samepath_benches::report::Goal;
use serde_json::{Value, json};

/// What was measured of one contestant, ns per operation.
pub struct Figures {
    name: String,
    pub insert: Vec<f64>,
    pub hit: Vec<f64>,
    pub hit_ahead: Vec<f64>,
    pub miss: Vec<f64>,
    pub delete: Vec<f64>,
    pub expire: Vec<f64>,
}

impl Figures {
    pub fn new(name: String) -> Self {
        let none = Vec::new;
        Self {
            name,
            insert: none(),
            hit: none(),
            hit_ahead: none(),
            miss: none(),
            delete: none(),
            expire: none(),
        }
    }
}

/// All sizes.
#[derive(Default)]
pub struct Report {
    sizes: Vec<(&'static str, Vec<Figures>)>,
    pub bytes_per_session: usize,
}

fn median(of: &[f64]) -> Option<f64> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Half of the middle half's width, in per cent of the median.
fn spread(of: &[f64]) -> Option<f64> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len() / 4)?, sorted.get(sorted.len() * 3 / 4)?);
    Some((high - low) / 2.0 / median(of)? * 100.0)
}

/// The median of peer / own, repetition by repetition.
fn ratio(peer: &[f64], own: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = peer.iter().zip(own).map(|(peer, own)| peer / own).collect();
    median(&ratios)
}

fn cell(figure: Option<f64>) -> String {
    figure.map_or("–".into(), |ns| format!("{ns:.1}"))
}

impl Report {
    pub fn add(&mut self, size: &'static str, figures: Vec<Figures>) {
        self.sizes.push((size, figures));
    }

    fn peer<'a>(figures: &'a [Figures], begins: &str) -> Option<&'a Figures> {
        figures.iter().find(|figures| figures.name.starts_with(begins))
    }

    fn against(figures: &[Figures], begins: &str, pick: impl Fn(&Figures) -> &[f64]) -> Option<f64> {
        let (own, peer) = (figures.first()?, Self::peer(figures, begins)?);
        ratio(pick(peer), pick(own))
    }

    fn against_ahead(figures: &[Figures]) -> Option<f64> {
        ratio(&Self::peer(figures, "DPDK")?.hit_ahead, &figures.first()?.hit)
    }

    /// Prints figures and ratios.
    pub fn print(&self) {
        for (size, figures) in &self.sizes {
            println!("\n{size} sessions, ns of CPU per operation (median; ± half of the middle half)");
            println!(
                "{:<58} {:>7} {:>6} {:>7} {:>7} {:>7} {:>7}",
                "", "hit", "±%", "miss", "insert", "delete", "expire"
            );
            for one in figures {
                let [hit, miss, insert, delete, expire] =
                    [&one.hit, &one.miss, &one.insert, &one.delete, &one.expire].map(|of| cell(median(of)));
                let spread = cell(spread(&one.hit));
                println!(
                    "{:<58} {hit:>7} {spread:>6} {miss:>7} {insert:>7} {delete:>7} {expire:>7}",
                    one.name
                );
            }
            for (what, ratio) in [
                ("hits as fast as rte_hash, times", Self::against(figures, "DPDK", |one| &one.hit)),
                ("hits as fast as rte_hash that asks for records ahead, times", Self::against_ahead(figures)),
                ("misses as fast as rte_hash, times", Self::against(figures, "DPDK", |one| &one.miss)),
                ("hits, share of the limit", Self::against(figures, "limit", |one| &one.hit)),
            ] {
                println!("{what}: {}", ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")));
            }
        }
        println!("\nbytes per IPv4 session, all included: {}", self.bytes_per_session);
    }

    fn metrics(&self) -> Value {
        let each = |begins: &str, pick: fn(&Figures) -> &[f64]| -> Value {
            let pairs = self
                .sizes
                .iter()
                .map(|(size, figures)| (size.to_string(), json!(Self::against(figures, begins, pick))));
            Value::Object(pairs.collect())
        };
        json!({
            "lookup_touch_ratio_vs_rte_hash": each("DPDK", |one| &one.hit),
            "lookup_touch_ratio_vs_rte_hash_ahead": Value::Object(
                self.sizes.iter().map(|(size, of)| (size.to_string(), json!(Self::against_ahead(of)))).collect(),
            ),
            "lookup_miss_ratio_vs_rte_hash": each("DPDK", |one| &one.miss),
            "ratio_vs_memory_limit": each("limit", |one| &one.hit),
            "bytes_per_session": self.bytes_per_session,
        })
    }

    /// What has a goal, and whether it is met.
    fn verdicts(&self) -> Value {
        let mut verdicts = serde_json::Map::new();
        let mut judge = |name: String, goal: Goal, value: Option<f64>| {
            if let Some(value) = value {
                verdicts.insert(name, json!({ "goal": goal.text(), "met": goal.is_met(value) }));
            }
        };
        for (size, figures) in &self.sizes {
            let hits = Self::against(figures, "DPDK", |one| &one.hit);
            let goal = match *size {
                "64k" => 2.3,
                "1m" => 2.2,
                _ => 2.0,
            };
            judge(format!("lookup_touch_ratio_vs_rte_hash/{size}"), Goal::AtLeast(goal), hits);
            let misses = Self::against(figures, "DPDK", |one| &one.miss);
            judge(format!("lookup_miss_ratio_vs_rte_hash/{size}"), Goal::AtLeast(2.0), misses);
            if *size == "8m" {
                let share = Self::against(figures, "limit", |one| &one.hit);
                judge("ratio_vs_memory_limit/8m".into(), Goal::AtLeast(0.75), share);
            }
        }
        judge("bytes_per_session".into(), Goal::AtMost(128.0), Some(self.bytes_per_session as f64));
        Value::Object(verdicts)
    }

    /// Writes `target/bench/table.json`.
    pub fn save(&self) {
        let sizes = self.sizes.iter().map(|(size, figures)| {
            let all: Vec<Value> = figures
                .iter()
                .map(|one| {
                    json!({
                        "name": one.name, "hit_ns": median(&one.hit), "hit_spread_percent": spread(&one.hit),
                        "hit_ahead_ns": median(&one.hit_ahead),
                        "miss_ns": median(&one.miss), "insert_ns": median(&one.insert),
                        "delete_ns": median(&one.delete), "expire_ns": median(&one.expire),
                    })
                })
                .collect();
            (size.to_string(), Value::Array(all))
        });
        let report = json!({ "schema": 1, "metrics": self.metrics(), "goals": self.verdicts(), "sizes": Value::Object(sizes.collect()) });
        let folder = std::env::var("SAMEPATH_BENCH_DIR").unwrap_or("target/bench".into());
        let path = std::path::Path::new(&folder).join("table.json");
        std::fs::create_dir_all(&folder).expect("target/bench can be made");
        std::fs::write(&path, format!("{report:#}\n")).expect("the report can be written");
        println!("JSON: {}", path.display());
    }
}
