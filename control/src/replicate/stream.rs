//! Frames over a QUIC stream: reading one, and the loop that writes what the machine has.

use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use samepath_dataplane::flow::NodeId;

use super::limits::{FRAME_MAX, HELLO_MS};
use super::machine::Link;
use super::message::{Malformed, Message};
use super::refusal::Refusal;
use super::replicator::Shared;

/// Why a stream ended.
#[derive(Debug)]
pub(super) enum StreamEnd {
    /// This node will not go on.
    Refused(Refusal),
    /// The connection broke; it knows why.
    Broken,
}

impl From<Refusal> for StreamEnd {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The reading half of a stream.
pub(super) struct Frames {
    stream: RecvStream,
    me: NodeId,
    peer: NodeId,
    buffer: Vec<u8>,
}

impl Frames {
    pub(super) fn new(stream: RecvStream, me: NodeId, peer: NodeId) -> Self {
        Self { stream, me, peer, buffer: Vec::new() }
    }

    /// The next message; waits for it.
    pub(super) async fn next(&mut self) -> Result<Message, StreamEnd> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.map_err(|_| StreamEnd::Broken)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_MAX {
            return Err(self.malformed(Malformed::Long(length)));
        }
        self.buffer.resize(length, 0);
        self.stream.read_exact(&mut self.buffer).await.map_err(|_| StreamEnd::Broken)?;
        Message::decode(&self.buffer).map_err(|cause| self.malformed(cause))
    }

    /// The first message, which must come soon and be a Hello.
    pub(super) async fn hello(&mut self) -> Result<Message, StreamEnd> {
        let (me, peer) = (self.me, self.peer);
        match timeout(Duration::from_millis(HELLO_MS), self.next()).await {
            Err(_) => Err(Refusal::Silent { me, peer }.into()),
            Ok(Ok(message)) if !matches!(message, Message::Hello(_)) => {
                Err(self.malformed(Malformed::Order(message.kind())))
            }
            Ok(result) => result,
        }
    }

    fn malformed(&self, cause: Malformed) -> StreamEnd {
        Refusal::Malformed { me: self.me, peer: self.peer, cause }.into()
    }
}

/// Writes what the machine has for `link`, for ever; `wake` tells that there may be more. A full
/// stream makes it wait, and the machine keeps what is not yet written.
pub(super) async fn write(shared: &Shared, link: Link, stream: &mut SendStream, wake: &Notify) -> StreamEnd {
    loop {
        let (frame, due) = {
            let mut machine = shared.machine();
            let now = shared.now();
            machine.handle_timeout(link, now);
            let frame = machine.poll_message(link, now);
            (frame, machine.poll_timeout(link).map(|due| due.since(now)))
        };
        match (frame, due) {
            (Some(frame), _) => {
                if stream.write_all(&frame).await.is_err() {
                    return StreamEnd::Broken;
                }
            }
            (None, Some(ms)) => {
                tokio::select! {
                    () = wake.notified() => {}
                    () = sleep(Duration::from_millis(ms)) => {}
                }
            }
            (None, None) => wake.notified().await,
        }
    }
}
