//! The policy file: read, checked, compiled for the workers.

mod compile;
mod file;
#[cfg(test)]
mod tests;
mod words;

use std::path::Path;

pub use compile::Compiled;
pub use file::{PolicyFile, RuleText};

/// Why a policy cannot be used: one sentence with the file, the line, the rule and the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

impl PolicyFile {
    /// Reads and checks a file. `zones`, `services`: those of the node, if they are known.
    pub fn read(path: &Path, zones: Option<&[&str]>, services: Option<&[&str]>) -> Result<Self, PolicyError> {
        let file = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            PolicyError(format!(
                "the policy {file} cannot be read ({error}): it is a TOML file; correct the path or its permissions"
            ))
        })?;
        let policy = Self::parse(&text).map_err(|at| PolicyError(format!("{file} {at}")))?;
        if let Some(zones) = zones {
            policy.verify_zones(zones).map_err(|at| PolicyError(format!("{file} {at}")))?;
        }
        if let Some(services) = services {
            policy.verify_services(services).map_err(|at| PolicyError(format!("{file} {at}")))?;
        }
        Ok(policy)
    }
}
