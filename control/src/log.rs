//! The log: events on stderr, through a filter that can be changed while the node runs.

use std::fmt;
use std::io;

use tracing_subscriber::{EnvFilter, reload};

use crate::config::values;
use crate::operator::api::LogReply;

/// The running log.
pub struct Log {
    filter: String,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl Log {
    /// Begins to log what `filter` lets through; once in a process.
    pub fn start(filter: &str) -> Self {
        let builder = tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(false)
            .with_env_filter(EnvFilter::new(filter))
            .with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Self { filter: filter.into(), reload: Box::new(move |filter| handle.reload(filter)) }
    }

    /// The filter in use, and `filter` in its place if one is given. Errors: a sentence that names what was given.
    pub fn set(&mut self, filter: Option<&str>) -> Result<LogReply, String> {
        let before = self.filter.clone();
        if let Some(text) = filter {
            let usable =
                values::log(text).map_err(|rule| format!("\"{text}\" cannot be used: {}", rule.0))?;
            (self.reload)(EnvFilter::new(&usable))
                .map_err(|error| format!("the log cannot be changed ({error}): restart with --log {text}"))?;
            self.filter = usable;
        }
        Ok(LogReply { filter: self.filter.clone(), before })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_filter_takes_the_place_of_the_one_before_and_a_bad_one_changes_nothing() {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let seen = taken.clone();
        let reload = move |filter: EnvFilter| {
            seen.borrow_mut().push(filter.to_string());
            Ok(())
        };
        let mut log = Log { filter: "info".into(), reload: Box::new(reload) };
        let both = |filter: &str, before: &str| LogReply { filter: filter.into(), before: before.into() };
        assert_eq!(log.set(None), Ok(both("info", "info")));
        assert_eq!(log.set(Some("debug")), Ok(both("debug", "info")));
        assert_eq!(log.set(Some("info,samepath=trace")), Ok(both("info,samepath=trace", "debug")));
        for bad in ["loud", "samepath=loud", "", "info,samepath[=debug"] {
            let refused = log.set(Some(bad)).unwrap_err();
            assert!(refused.starts_with(&format!("\"{bad}\" cannot be used: ")), "{refused}");
        }
        assert_eq!(log.set(None), Ok(both("info,samepath=trace", "info,samepath=trace")));
        assert_eq!(taken.borrow().as_slice(), ["debug", "samepath=trace,info"]);
    }
}
