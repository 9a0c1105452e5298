//! The commands' end of looking on: asks again and again until there is enough, the time is over or Ctrl-C is pressed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::api::{Reply, Request};
use super::client::{ClientError, Connection, complain, socket};
use super::watch::{NodeWatched, WatchOrder, Watched};
use super::why::Silent;

/// Time between two questions when there is nothing more to fetch.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// How long nodes may take until their workers look; then they are named.
const SOON: Duration = Duration::from_secs(2);

/// Somebody who looks on.
#[derive(Debug)]
pub(super) struct Looking {
    connection: Connection,
    order: WatchOrder,
    since: Instant,
    until: Option<Instant>,
    interrupted: Arc<AtomicBool>,
    announced: bool,
    more: bool,
}

impl Looking {
    /// Begins to look on. `order.id` is drawn here.
    pub(super) fn begin(
        named: Option<&Path>,
        order: WatchOrder,
        timeout: Option<Duration>,
    ) -> Result<Self, ClientError> {
        let since = Instant::now();
        Ok(Self {
            connection: Connection::open(&socket(named)?)?,
            order: WatchOrder { id: draw_id(), ..order },
            since,
            until: timeout.map(|timeout| since + timeout),
            interrupted: interrupted(),
            announced: false,
            more: false,
        })
    }

    /// The time is over, or somebody pressed Ctrl-C.
    pub(super) fn is_over(&self) -> bool {
        self.interrupted.load(Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// What was seen since the last time; waits a little if there was nothing more.
    pub(super) fn look(&mut self) -> Result<Watched, ClientError> {
        if self.announced && !self.more {
            std::thread::sleep(PAUSE);
        }
        let watched = self.ask()?;
        for node in &watched.nodes {
            if let Some(last) = node.seen.last() {
                self.order.arrived.retain(|(from, _)| *from != node.node);
                self.order.arrived.push((node.node, last.number));
            }
        }
        self.more = watched.nodes.iter().any(|node| node.more);
        self.announce(&watched);
        Ok(watched)
    }

    /// Says once who looks and who does not.
    fn announce(&mut self, watched: &Watched) {
        let all = watched.nodes.iter().all(|node| node.looks);
        if self.announced || !all && self.since.elapsed() < SOON {
            return;
        }
        self.announced = true;
        let looking: Vec<String> =
            watched.nodes.iter().filter(|node| node.looks).map(|node| node.node.to_string()).collect();
        let plural = if looking.len() == 1 { "" } else { "s" };
        complain(&format_args!("looking on node{plural} {}; Ctrl-C ends it", looking.join(", ")));
        for Silent { node, reason } in &watched.silent {
            complain(&format_args!("node {node} does not look: {reason}"));
        }
    }

    /// Ends it; the nodes would notice by themselves after some seconds.
    pub(super) fn end(mut self) -> Result<Watched, ClientError> {
        self.order.end = true;
        self.ask()
    }

    fn ask(&mut self) -> Result<Watched, ClientError> {
        self.connection.ask(&Request::Watch(self.order.clone()))?;
        match self.connection.reply()? {
            Reply::Watched(watched) => Ok(*watched),
            Reply::Error(refusal) => Err(ClientError::Refused(refusal.error)),
            _ => Err(ClientError::Refused("the daemon answered something else".into())),
        }
    }
}

/// A number by which a node knows who looks on.
pub(super) fn draw_id() -> u64 {
    let mut bytes = [0; 8];
    // Without chance there is still the number of the process.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // JSON numbers are exact up to 53 bits.
    (u64::from_ne_bytes(bytes) ^ u64::from(std::process::id())) >> 11
}

/// What was missed, in words; `None`: nothing.
pub(super) fn missed(node: &NodeWatched) -> Option<String> {
    let NodeWatched { node, missed_full, missed_rate, .. } = node;
    (missed_full + missed_rate > 0).then(|| {
        format!(
            "node {node} missed {} packets that matched: {missed_full} because earlier ones had not been fetched, {missed_rate} because a worker writes down so many per second only; ask for fewer",
            missed_full + missed_rate
        )
    })
}

/// Becomes true with Ctrl-C.
pub(super) fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Without a runtime Ctrl-C ends the program at once, as it would anyway.
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            raised.store(true, Relaxed);
        }
    });
    flag
}
