//! Processor cores.

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

/// Reads `0,2-3`; nothing where nothing can be read.
pub fn list(text: &str) -> Vec<usize> {
    if text.is_empty() { Vec::new() } else { values::cores(text).unwrap_or_default() }
}
