//! The keys of a running node: read again, taken as a whole or not at all.

use std::time::{Duration, SystemTime};

use super::Node;
use crate::config::Config;
use crate::keys::{ClusterKeys, Fingerprint, KeyError, SECRET, Summary};
use crate::operator::api;
use crate::replicate::NodeKeys;

/// A certificate that ends sooner deserves a warning.
const SOON: Duration = Duration::from_secs(30 * 86_400);

/// What is known of them outside replication.
pub(super) struct KeysInUse {
    /// Of the cluster's secret.
    fingerprint: Fingerprint,
    summary: Summary,
    /// Why the keys read last were not taken.
    refused: Option<String>,
}

impl KeysInUse {
    pub(super) fn new(keys: &ClusterKeys) -> Self {
        Self { fingerprint: keys.fingerprint(), summary: keys.summary(), refused: None }
    }

    pub(super) fn status(&self) -> api::Keys {
        let Summary { issuer, valid_until, cas, .. } = &self.summary;
        api::Keys { issuer: issuer.clone(), valid_until: valid_until.clone(), cas: *cas }
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let refused = self.refused.iter().map(|why| format!("the last keys were not taken: {why}"));
        let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(self.summary.ends_s);
        let soon = (ends < SystemTime::now() + SOON).then(|| {
            format!(
                "this node's certificate ends on {}: run `samepath keys issue DIR --node N --renew` where ca.key is, copy both files here and send SIGHUP",
                self.summary.valid_until
            )
        });
        refused.chain(soon)
    }
}

impl Node {
    /// Reads `--keys` again. What fails says so in the log and in `status`, and the keys before stay in use.
    pub(super) fn reload_keys(&mut self) {
        self.keys.refused = self.take_keys().err().inspect(|why| {
            tracing::error!("{why}; the keys before them stay in use");
        });
    }

    fn without_keys(&self, error: &KeyError) -> String {
        let outside = match error {
            KeyError::Io { path, .. } => self.confinement.outside(path),
            _ => None,
        };
        outside.unwrap_or_else(|| error.to_string())
    }

    fn take_keys(&mut self) -> Result<(), String> {
        let Config { keys: dir, node, .. } = &self.config;
        let keys = ClusterKeys::load(dir, *node).map_err(|error| self.without_keys(&error))?;
        if keys.fingerprint() != self.keys.fingerprint {
            return Err(format!(
                "{} is another secret than the one this node was started with, and that cannot change while it runs: put the old one back, or restart all nodes with the new one",
                dir.join(SECRET).display()
            ));
        }
        self.replicator.renew_keys(&NodeKeys::from(&keys)).map_err(|error| error.to_string())?;
        self.keys.summary = keys.summary();
        tracing::info!(
            cas = keys.cas.len(),
            "keys read again: connections to peers are made anew under them"
        );
        Ok(())
    }
}
