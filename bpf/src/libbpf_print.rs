//! libbpf prints to standard error by itself; we keep its last words for our own messages instead.

use std::cell::RefCell;

use libbpf_rs::{PrintLevel, set_print};

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on libbpf is silent, on all threads.
pub(crate) fn capture() {
    LAST.with(|last| last.borrow_mut().clear());
    set_print(Some((PrintLevel::Warn, |_, line| {
        // The verifier's log comes as one message of many lines; the reason stands near its end.
        LAST.with(|last| {
            *last.borrow_mut() = line.trim().lines().rev().take(4).collect::<Vec<_>>().join(" | ")
        });
    })));
}

/// What libbpf said last on this thread, with a leading colon, or nothing.
pub(crate) fn last() -> String {
    LAST.with(|last| {
        let last = last.borrow();
        if last.is_empty() { String::new() } else { format!(": {last}") }
    })
}
