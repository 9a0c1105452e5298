//! Waiting for something to become true: a poll with a deadline, never a bare sleep.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between the first two looks; each is twice the one before, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(1);

/// Longest time between two looks.
const LONGEST: Duration = Duration::from_millis(32);

/// Asks `look` until it answers `Ok(Some(_))`. An `Err` counts as "not yet"; at the deadline the last
/// one is part of the error, together with `what`.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut interval = SHORTEST;
    loop {
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::from("not yet true"),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= end {
            bail!("{what}: not within {:.1} s; last look: {last}", deadline.as_secs_f64());
        }
        thread::sleep(interval);
        interval = (interval * 2).min(LONGEST);
    }
}

/// [`until`] for a plain condition.
pub fn until_true(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, deadline, || Ok(look()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_found() {
        let mut looks = 0;
        let found = until("third look", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn deadline_names_the_last_error() {
        let error = until_true("never", Duration::from_millis(1), || bail!("no such thing"));
        assert!(error.unwrap_err().to_string().contains("no such thing"));
    }
}
