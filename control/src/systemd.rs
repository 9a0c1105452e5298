//! What systemd is told (sd_notify(3)): ready, reloading, stopping, and a sign of life while every worker and the
//! control loop move. Without `NOTIFY_SOCKET` nothing is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;

use crate::stall::Vigil;

/// How often the thread wakes to see whether it must end.
const LOOK: Duration = Duration::from_millis(100);

/// Signs of life per `WATCHDOG_USEC`: two may be late or lost.
const SIGNS: u32 = 3;

/// The daemon runs: packets flow.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("running")]);
}

/// Keys and policy are read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The daemon puts everything away.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!("systemd cannot be told {state:?}: {error}; check NOTIFY_SOCKET");
    }
}

/// The thread that gives signs of life; dropping this ends it. A thread of its own: a service manager that does
/// not read must not hold up whoever watches the workers.
#[derive(Debug)]
pub struct SignsOfLife {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SignsOfLife {
    /// Begins, if systemd asked for it (`WATCHDOG_USEC`). While a thread of the node stands still (`vigil`)
    /// no sign is given, so the slowest of them feeds the watchdog.
    pub fn start(vigil: Arc<Vigil>) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut usec = 0;
        if !sd_notify::watchdog_enabled(false, &mut usec) {
            return Ok(Self { stop, thread: None });
        }
        let interval = Duration::from_micros(usec) / SIGNS;
        let stopped = stop.clone();
        let thread = Builder::new()
            .name("sp-systemd".into())
            .spawn(move || give(&vigil, interval, &stopped))
            .context("thread sp-systemd cannot be started: raise the limit of threads (ulimit -u)")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn give(vigil: &Vigil, interval: Duration, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        if !vigil.stalled.load(Relaxed) {
            tell(&[NotifyState::Watchdog]);
        }
        let mut left = interval;
        while !left.is_zero() && !stop.load(Relaxed) {
            let nap = left.min(LOOK);
            std::thread::sleep(nap);
            left -= nap;
        }
    }
}

impl Drop for SignsOfLife {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}
