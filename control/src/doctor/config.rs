//! Configuration, keys and policy.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Trouble, trouble};
use crate::host::Case;
use crate::keys::{CA_KEY, ClusterKeys, Summary};
use crate::policy::PolicyFile;

/// A certificate that ends sooner should be renewed now.
const SOON_S: u64 = 30 * 86_400;

pub(super) fn refused(case: &Case) -> Vec<Trouble> {
    let refused = case.refused.iter();
    refused
        .map(|why| {
            let cause = format!("the configuration ({}) cannot be used: {why}", case.source);
            trouble(cause, "correct it until `samepath check` with the same flags is content")
        })
        .collect()
}

fn loaded(case: &Case) -> Option<Result<ClusterKeys, String>> {
    let config = case.config.as_ref()?;
    Some(ClusterKeys::load(&config.keys, config.node).map_err(|error| error.to_string()))
}

pub(super) fn keys(case: &Case) -> Vec<Trouble> {
    let Some(Err(why)) = loaded(case) else { return Vec::new() };
    let remedy = remedy_in(&why).unwrap_or("run this as the user the node runs as, or as root");
    vec![trouble(&why, remedy)]
}

/// The command that the sentence of an error names.
fn remedy_in(sentence: &str) -> Option<&str> {
    sentence.split('`').nth(1)
}

pub(super) fn certificate(case: &Case) -> Vec<Trouble> {
    let Some(Ok(keys)) = loaded(case) else { return Vec::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Some(config) = &case.config else { return Vec::new() };
    let remedy = format!(
        "samepath keys issue {} --node {} --renew   (where ca.key is; copy both files here and run `systemctl reload` or send SIGHUP)",
        config.keys.display(),
        config.node
    );
    ends(&keys.summary(), now).map(|cause| trouble(cause, remedy)).into_iter().collect()
}

/// A sentence if the certificate ends soon; `now` in seconds since 1970.
pub(super) fn ends(summary: &Summary, now: u64) -> Option<String> {
    let left = summary.ends_s.saturating_sub(now);
    (left < SOON_S).then(|| {
        format!(
            "the node's certificate ends on {}, in {} days: peers refuse it then",
            summary.valid_until,
            left / 86_400
        )
    })
}

pub(super) fn ca_key(case: &Case) -> Vec<Trouble> {
    let Some(config) = &case.config else { return Vec::new() };
    let path = config.keys.join(CA_KEY);
    if !path.exists() {
        return Vec::new();
    }
    let cause =
        format!("{} is on this node: whoever takes it over can make nodes of the cluster", path.display());
    vec![trouble(cause, format!("move {} to a machine that is not a node", path.display()))]
}

pub(super) fn policy(case: &Case) -> Vec<Trouble> {
    let Some((config, path)) =
        case.config.as_ref().and_then(|config| Some((config, config.policy.as_ref()?)))
    else {
        return Vec::new();
    };
    let (zones, services) = (config.zones(), config.service_names());
    let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let read = PolicyFile::read(path, Some(&zones), Some(&services));
    let remedy = format!("correct it until `samepath policy check {}` is content", path.display());
    read.err().map(|error| trouble(error.to_string(), remedy)).into_iter().collect()
}
