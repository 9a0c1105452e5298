//! The command's end: asks again and again until there is enough, the time is over or Ctrl-C is pressed.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{FollowOrder, Followed, SessionEvent};
use crate::operator::api::{Reply, Request, SCHEMA};
use crate::operator::client::{ClientError, Connection, DEGRADED, FINE, complain, socket};
use crate::operator::filter::Filter;
use crate::operator::looking::{PAUSE, draw_id, interrupted};

/// What is to be followed; the filter's limit is how many events.
#[derive(Clone, Debug)]
pub struct EventsOrder {
    /// Which sessions.
    pub filter: Filter,
    /// For how long; `None`: until Ctrl-C.
    pub time: Option<Duration>,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    kind: &'static str,
    #[serde(flatten)]
    event: &'a SessionEvent,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct End {
    schema: u32,
    kind: &'static str,
    node: u16,
    told: usize,
    lost: u64,
    gave_way: u64,
}

/// Follows sessions and prints events as they come; gives the exit code.
pub fn run(
    named: Option<&Path>,
    order: &EventsOrder,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let mut connection = Connection::open(&socket(named)?)?;
    let mut ask = |order: &FollowOrder| follow(&mut connection, order);
    let mut asked = FollowOrder { id: draw_id(), filter: order.filter.clone(), end: false };
    let (interrupted, until) = (interrupted(), order.time.map(|time| Instant::now() + time));
    let (mut announced, mut told) = (false, 0);
    loop {
        asked.end = interrupted.load(Relaxed) || until.is_some_and(|until| Instant::now() >= until);
        let mut followed = ask(&asked)?;
        if followed.looks && !announced {
            announced = true;
            complain(&format_args!("following sessions of node {}; Ctrl-C ends it", followed.node));
        }
        let wanted = order.filter.limit.map_or(usize::MAX, |limit| limit - told);
        followed.events.truncate(wanted);
        told += followed.events.len();
        match print(&followed.events, json, out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                ask(&FollowOrder { end: true, ..asked })?;
                return Ok(FINE);
            }
            printed => printed.map_err(ClientError::Output)?,
        }
        if order.filter.is_full(told) && !asked.end {
            ask(&FollowOrder { end: true, ..asked })?;
            return end(&followed, told, json, out);
        }
        if asked.end {
            return end(&followed, told, json, out);
        }
        if !followed.more {
            std::thread::sleep(PAUSE);
        }
    }
}

fn follow(connection: &mut Connection, order: &FollowOrder) -> Result<Followed, ClientError> {
    connection.ask(&Request::Follow(order.clone()))?;
    match connection.reply()? {
        Reply::Followed(followed) => Ok(followed),
        Reply::Error(refusal) => Err(ClientError::Refused(refusal.error)),
        _ => Err(ClientError::Refused("the daemon answered something else".into())),
    }
}

fn print(events: &[SessionEvent], json: bool, out: &mut impl Write) -> io::Result<()> {
    for event in events {
        match json {
            true => {
                let line = Line { schema: SCHEMA, kind: "session_event", event };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
            false => writeln!(out, "{event}")?,
        }
    }
    out.flush()
}

/// Says how many were told and how many were not.
fn end(followed: &Followed, told: usize, json: bool, out: &mut impl Write) -> Result<u8, ClientError> {
    let &Followed { node, lost, gave_way, .. } = followed;
    if json {
        let last = End { schema: SCHEMA, kind: "session_events", node, told, lost, gave_way };
        let text = serde_json::to_string(&last).map_err(|error| ClientError::Output(error.into()))?;
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(ClientError::Output)?;
    }
    complain(&format_args!("{told} events told"));
    if lost > 0 {
        complain(&format_args!(
            "{lost} events lost: more happened at once than is told or fetched; ask for fewer with a filter"
        ));
    }
    if gave_way > 0 {
        complain(&format_args!(
            "{gave_way} sessions gave way to new ones, and their end is not among these: see `sessions.evicted` and its like in `samepath stats`"
        ));
    }
    Ok(if lost + gave_way > 0 { DEGRADED } else { FINE })
}
