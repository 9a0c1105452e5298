//! Processor cores.

use std::collections::BTreeMap;

use super::Place;
use crate::config::values;

const CPUS: &str = "/sys/devices/system/cpu";

/// One core that is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// It runs.
    pub online: bool,
    /// Kept free of other work by isolcpus.
    pub isolated: bool,
    /// Hardware threads of the same core, this one included.
    pub siblings: Vec<usize>,
    /// What decides its clock rate.
    pub governor: Option<String>,
    /// Memory node.
    pub memory_node: Option<i32>,
}

/// All cores that are present.
pub fn cores(place: &Place) -> Vec<Core> {
    let set = |name: &str| list(&place.text(&format!("{CPUS}/{name}")).unwrap_or_default());
    let (present, online, isolated) = (set("present"), set("online"), set("isolated"));
    present
        .into_iter()
        .map(|id| Core {
            id,
            online: online.contains(&id),
            isolated: isolated.contains(&id),
            siblings: set(&format!("cpu{id}/topology/thread_siblings_list")),
            governor: place.text(&format!("{CPUS}/cpu{id}/cpufreq/scaling_governor")),
            memory_node: memory_node(place, id),
        })
        .collect()
}

fn memory_node(place: &Place, core: usize) -> Option<i32> {
    let names = place.names(&format!("{CPUS}/cpu{core}"));
    names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// Clock rate of each core as the kernel saw it last, MHz; those it does not tell are missing.
pub fn clock_rates(place: &Place) -> BTreeMap<usize, f64> {
    let text = place.text("/proc/cpuinfo").unwrap_or_default();
    let mut core: Option<usize> = None;
    let mut rates = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        match name.trim() {
            "processor" => core = value.trim().parse().ok(),
            "cpu MHz" => rates.extend(core.zip(value.trim().parse().ok())),
            _ => {}
        }
    }
    rates
}

/// Time of a core since the start, in the kernel's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticks {
    /// All of it.
    pub all: u64,
    /// What the hypervisor gave to others.
    pub stolen: u64,
}

/// Place of `steal` in a line of /proc/stat; what is behind it is in other columns already (proc_stat(5)).
const STEAL: usize = 7;

/// Time of each core.
pub fn ticks(place: &Place) -> BTreeMap<usize, Ticks> {
    let text = place.text("/proc/stat").unwrap_or_default();
    let core = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_whitespace();
        let id = words.next()?.parse().ok()?;
        let spans: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let all = spans.iter().take(STEAL + 1).sum();
        Some((id, Ticks { all, stolen: spans.get(STEAL).copied().unwrap_or_default() }))
    };
    // The first line has the sum of all and no number.
    text.lines().filter(|line| !line.starts_with("cpu ")).filter_map(core).collect()
}

/// Reads `0,2-3`; nothing where nothing can be read.
pub fn list(text: &str) -> Vec<usize> {
    if text.is_empty() { Vec::new() } else { values::cores(text).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_rates_are_those_of_cpuinfo() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::at(root.path());
        assert!(clock_rates(&place).is_empty());
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let text = "processor\t: 0\ncpu MHz\t\t: 2400.5\nflags\t: a b\n\nprocessor\t: 3\nmodel\t: x\n\nprocessor\t: 7\ncpu MHz\t\t: 800.000\n";
        std::fs::write(root.path().join("proc/cpuinfo"), text).unwrap();
        assert_eq!(clock_rates(&place), BTreeMap::from([(0, 2400.5), (7, 800.0)]));
    }
    #[test]
    fn stolen_time_is_the_eighth_of_a_cores_line() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::at(root.path());
        assert!(ticks(&place).is_empty());
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 100 100\ncpu11 10 0 0 30\nintr 5 6\n";
        std::fs::write(root.path().join("proc/stat"), text).unwrap();
        let seen = ticks(&place);
        assert_eq!(seen[&0], Ticks { all: 36, stolen: 8 });
        assert_eq!(seen[&11], Ticks { all: 40, stolen: 0 });
        assert_eq!(seen.len(), 2);
    }
}
