//! Membership written down in etcd (`--membership etcd://…`): every node keeps its row under a lease, reads the rows
//! of all, and takes etcd's revision for the epoch. A thread of its own talks to the v3 JSON gateway of any of the
//! endpoints; control looks at what it found last and never waits. While etcd is away what was read last stays true:
//! Hello goes on judging who is dead.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use samepath_dataplane::flow::NodeId;

use super::row::Row;

/// Time between two rounds: how late a row may be read.
const EVERY: Duration = Duration::from_millis(200);

/// How long one request may take; then the next endpoint is asked.
const PATIENCE: Duration = Duration::from_millis(700);

/// A lease lasts so many detection times, and two seconds at least (etcd grants no less): a row outlives a short
/// absence of etcd, and goes when its node is dead.
const LEASE: u64 = 3;

/// What etcd holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registry {
    /// The store's revision when what follows was first read.
    pub revision: u64,
    /// Rows of the nodes that have a lease.
    pub rows: Vec<Row>,
}

/// What the thread and control share.
#[derive(Debug, Default)]
struct Shared {
    /// The row to be written.
    own: Option<Row>,
    /// What was read last.
    registry: Option<Registry>,
    reachable: bool,
}

/// The thread that talks to etcd; dropping this ends it and leaves the row to its lease.
#[derive(Debug)]
pub struct Etcd {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Etcd {
    /// Begins to ask `endpoints` (`HOST:PORT`) about the members of `cluster`.
    pub fn start(
        endpoints: Vec<String>,
        cluster: u32,
        node: NodeId,
        timeout_ms: u64,
    ) -> anyhow::Result<Self> {
        let (shared, stop) = (Arc::<Mutex<Shared>>::default(), Arc::<AtomicBool>::default());
        let mut session = Session::new(endpoints, cluster, node, timeout_ms);
        let (theirs, stopped) = (shared.clone(), stop.clone());
        let thread = Builder::new()
            .name("sp-etcd".into())
            .spawn(move || {
                while !stopped.load(Relaxed) {
                    round(&mut session, &theirs);
                    std::thread::sleep(EVERY);
                }
            })
            .context("thread sp-etcd cannot be started: raise the limit of threads (ulimit -u)")?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Gives the row to be written, and what was read last; whether etcd answers now.
    pub fn exchange(&self, own: &Row) -> (Option<Registry>, bool) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.own = Some(own.clone());
        (shared.registry.clone(), shared.reachable)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

fn round(session: &mut Session, shared: &Mutex<Shared>) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let own = lock().own.clone();
    let outcome = session.round(own.as_ref());
    let mut shared = lock();
    match outcome {
        Ok(registry) => {
            if !std::mem::replace(&mut shared.reachable, true) {
                tracing::info!(endpoint = session.endpoint(), "etcd answers");
            }
            let before = shared.registry.as_ref();
            // The revision counts changes of others as well: only what changed here is news.
            if before.is_none_or(|before| before.rows != registry.rows) {
                shared.registry = Some(registry);
            }
        }
        Err(error) => {
            if std::mem::replace(&mut shared.reachable, false) {
                tracing::warn!("etcd does not answer ({error:#}): the members stay as they were read last");
            }
            session.next_endpoint();
        }
    }
}

/// A lease, and what was written under it.
struct Session {
    agent: ureq::Agent,
    endpoints: Vec<String>,
    at: usize,
    prefix: String,
    node: NodeId,
    ttl_s: u64,
    lease: Option<String>,
    written: Option<Row>,
}

impl Session {
    fn new(endpoints: Vec<String>, cluster: u32, node: NodeId, timeout_ms: u64) -> Self {
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let prefix = format!("/samepath/{cluster}/members/");
        let ttl_s = (LEASE * timeout_ms).div_ceil(1000).max(2);
        Self { agent, endpoints, at: 0, prefix, node, ttl_s, lease: None, written: None }
    }

    fn endpoint(&self) -> &str {
        &self.endpoints[self.at % self.endpoints.len()]
    }

    fn next_endpoint(&mut self) {
        self.at += 1;
    }

    /// Keeps the lease, writes the row, reads all rows.
    fn round(&mut self, own: Option<&Row>) -> anyhow::Result<Registry> {
        if let Some(own) = own {
            self.keep_lease()?;
            // What only counts is not worth a write; whom it hears and who it is are.
            let same = |row: &Row| (&row.hears, row.identity) == (&own.hears, own.identity);
            if !self.written.as_ref().is_some_and(same) {
                let key = format!("{}{}", self.prefix, self.node);
                self.ask(
                    "kv/put",
                    &json!({
                        "key": STANDARD.encode(key),
                        "value": STANDARD.encode(own.encode()),
                        "lease": self.lease,
                    }),
                )?;
                self.written = Some(own.clone());
            }
        }
        let end = format!("{}0", self.prefix.trim_end_matches('/'));
        let answer = self.ask(
            "kv/range",
            &json!({
                "key": STANDARD.encode(&self.prefix),
                // The byte after '/' is '0': all keys that begin with the prefix.
                "range_end": STANDARD.encode(end),
            }),
        )?;
        read_registry(&answer)
    }

    /// A lease that etcd has forgotten, or that ran out, is replaced, and the row written again.
    fn keep_lease(&mut self) -> anyhow::Result<()> {
        if let Some(lease) = &self.lease {
            let answer = self.ask("lease/keepalive", &json!({ "ID": lease }))?;
            if number(&answer["result"]["TTL"]).is_some_and(|left| left > 0) {
                return Ok(());
            }
        }
        (self.lease, self.written) = (None, None);
        let answer = self.ask("lease/grant", &json!({ "TTL": self.ttl_s }))?;
        let lease = answer["ID"].as_str().context("etcd granted a lease without number")?;
        self.lease = Some(lease.to_owned());
        Ok(())
    }

    fn ask(&self, what: &str, request: &Value) -> anyhow::Result<Value> {
        let url = format!("http://{}/v3/{what}", self.endpoint());
        let response =
            self.agent.post(&url).header("content-type", "application/json").send(request.to_string());
        let mut response = response.map_err(|error| anyhow!("{url}: {error}"))?;
        let text = response.body_mut().read_to_string().map_err(|error| anyhow!("{url}: {error}"))?;
        // An answer that streams has one document per line; the first is what was asked for.
        let first = text.lines().next().unwrap_or_default();
        let answer: Value =
            serde_json::from_str(first).with_context(|| format!("{url} answered {first:.200}"))?;
        if let Some(error) = answer.get("error") {
            bail!("{url}: {error}");
        }
        Ok(answer)
    }
}

/// The gateway writes 64-bit numbers as strings.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// What etcd answered about the members. Rows that cannot be read are another release's: skipped.
pub fn read_registry(answer: &Value) -> anyhow::Result<Registry> {
    let revision = number(&answer["header"]["revision"]).context("etcd named no revision")?;
    let values = answer["kvs"].as_array().into_iter().flatten().filter_map(|pair| pair["value"].as_str());
    let rows = values.filter_map(|value| Row::decode(&STANDARD.decode(value).ok()?));
    Ok(Registry { revision, rows: rows.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_etcd_3_4_is_read() {
        let bytes = [1, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 1, 0, 1];
        let answer = json!({
            "header": {"cluster_id": "14841639068965178418", "revision": "17", "raft_term": "2"},
            "kvs": [
                {"key": "L3NhbWVwYXRo", "value": STANDARD.encode(bytes), "mod_revision": "16", "lease": "7587"},
                {"key": "L3NhbWVwYXRo", "value": "bm90IGEgcm93"},
            ],
            "count": "2",
        });
        let registry = read_registry(&answer).unwrap();
        assert_eq!((registry.revision, registry.rows.len()), (17, 1));
        assert_eq!((registry.rows[0].identity.node, registry.rows[0].epoch), (3, 5));
        assert_eq!(read_registry(&json!({"header": {"revision": "3"}})).unwrap().rows, []);
        assert!(read_registry(&json!({})).is_err());
    }

    #[test]
    fn an_endpoint_that_does_not_answer_is_an_error_with_its_address() {
        let mut session = Session::new(vec!["127.0.0.1:1".into()], 7, NodeId(1), 800);
        let error = session.round(None).unwrap_err();
        assert!(format!("{error:#}").contains("127.0.0.1:1"), "{error:#}");
        assert_eq!(session.ttl_s, 3);
    }
}
