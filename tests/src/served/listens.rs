//! Waiting until a program listens.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::bed::Service;
use crate::netns::Namespace;
use crate::{program, wait};

/// Programs with many helpers and modules take their time on a busy machine.
const STARTED: Duration = Duration::from_secs(60);

/// Waits until a TCP port of a namespace has so many listeners; an error if the program ends before.
pub fn wait_for(space: &Namespace, service: &mut Service, port: u16, listeners: usize) -> Result<()> {
    wait::until_true(&format!("port {port} has {listeners} listeners"), STARTED, || {
        if service.ended()?.is_some() {
            bail!("it ended: {} {}", service.log_tail(), service.output());
        }
        let mut ss = space.command("ss");
        let listening = program::run(ss.args(["-Hltn", &format!("sport = :{port}")]))?;
        Ok(listening.lines().count() == listeners)
    })
}
