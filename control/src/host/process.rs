//! What a process may do: capabilities and limits.

use super::Place;

/// The process whose rights matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// How it is spoken of: `the node (process 12)` or `this process`.
    pub name: String,
    /// Text of its /proc/PID/status.
    pub status: Option<String>,
    /// Bytes of memory it may lock, `u64::MAX`: any.
    pub locked_memory: Option<u64>,
    /// Files it may have open.
    pub open_files: Option<u64>,
}

impl Process {
    /// Reads the limits of `node`, or of this process.
    pub fn read(place: &Place, node: Option<i32>) -> Self {
        let (name, folder) = match node {
            Some(pid) => (format!("the node (process {pid})"), format!("/proc/{pid}")),
            None => ("this process".into(), "/proc/self".into()),
        };
        let limits = place.text(&format!("{folder}/limits")).unwrap_or_default();
        Self {
            name,
            status: place.text(&format!("{folder}/status")),
            locked_memory: limit(&limits, "Max locked memory"),
            open_files: limit(&limits, "Max open files"),
        }
    }
}

/// The soft limit in a /proc/PID/limits (proc(5)).
fn limit(limits: &str, name: &str) -> Option<u64> {
    let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match values.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(limit(text, "Max open files"), Some(1024));
        assert_eq!(limit(text, "Max locked memory"), Some(u64::MAX));
        assert_eq!(limit(text, "Max nothing"), None);
    }
}
