//! What belongs to the whole machine: settings that are put back, and the time its cores spend.

use std::fs;

use anyhow::{Context, Result};

/// A file under /proc/sys with a value for the time of the bench; the old one comes back with the drop.
#[derive(Debug)]
pub struct Setting {
    path: String,
    before: String,
}

impl Setting {
    /// Writes `value` if the present one is lower.
    pub fn at_least(path: &str, value: u64) -> Result<Self> {
        let path = format!("/proc/sys/{path}");
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        if before.trim().parse::<u64>().is_ok_and(|present| present < value) {
            fs::write(&path, value.to_string()).with_context(|| format!("cannot write {value} to {path}"))?;
        }
        Ok(Self { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, self.before.trim()) {
            eprintln!("{} could not be set back to {}: {error}", self.path, self.before.trim());
        }
    }
}

/// Time of one core, in ticks of 10 ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoreTimes {
    /// Doing something for us or somebody.
    pub busy: u64,
    /// Wanting to, but the hypervisor ran somebody else.
    pub stolen: u64,
}

/// Times of all cores since boot (proc_stat(5)).
pub fn core_times() -> Result<Vec<CoreTimes>> {
    let text = fs::read_to_string("/proc/stat")?;
    Ok(text.lines().filter_map(read_core).collect())
}

fn read_core(line: &str) -> Option<CoreTimes> {
    let (name, times) = line.split_once(' ')?;
    name.strip_prefix("cpu")?.parse::<usize>().ok()?;
    let times: Vec<u64> = times.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = [0, 1, 2, 5, 6].iter().map(|&field| times.get(field)).sum::<Option<u64>>()?;
    Some(CoreTimes { busy, stolen: *times.get(7)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_of_proc_stat_is_read_and_the_sum_is_not() {
        let core = read_core("cpu1 1 2 4 100 100 8 16 32 0 0");
        assert_eq!(core, Some(CoreTimes { busy: 31, stolen: 32 }));
        assert_eq!(read_core("cpu  1 2 4 100 100 8 16 32 0 0"), None);
    }
}
