//! libbpf prints to standard error by itself; we keep its words for our own messages instead.

use std::cell::RefCell;

use libbpf_rs::{PrintLevel, set_print};

/// What libbpf said on this thread since [`capture`].
#[derive(Clone, Default)]
pub(crate) struct Said {
    /// Its first warning, which names what failed; later ones only say what failed because of it.
    pub first: Option<String>,
    /// Why the kernel's verifier refused the program, if it was asked.
    pub verifier: Option<String>,
}

thread_local! {
    static SAID: RefCell<Said> = RefCell::new(Said::default());
}

/// From now on libbpf is silent, on all threads, and what it said before is forgotten.
pub(crate) fn capture() {
    SAID.take();
    set_print(Some((PrintLevel::Warn, |_, text| SAID.with_borrow_mut(|said| said.note(&text)))));
}

/// What libbpf said on this thread since [`capture`].
pub(crate) fn said() -> Said {
    SAID.with_borrow(Said::clone)
}

impl Said {
    fn note(&mut self, text: &str) {
        if text.contains("-- BEGIN PROG LOAD LOG --") {
            self.verifier = text.lines().rev().find(|line| is_reason(line)).map(str::to_owned);
        } else if self.first.is_none() {
            self.first = text.lines().next().map(|line| line.trim_start_matches("libbpf: ").to_owned());
        }
    }
}

/// The verifier's log ends with figures; its reason is the last line before them.
fn is_reason(line: &str) -> bool {
    let figures = ["-- END", "processed ", "stack depth ", "verification time "];
    !line.trim().is_empty() && !figures.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_of_the_verifier_is_found_before_its_figures() {
        let mut said = Said::default();
        said.note("libbpf: prog 'samepath_steer': BPF program load failed: Permission denied\n");
        said.note(
            "libbpf: prog 'samepath_steer': -- BEGIN PROG LOAD LOG --\n0: R1=ctx()\nR3 offset is outside of the \
             packet\nverification time 7 usec\nstack depth 128\nprocessed 2387 insns\n-- END PROG LOAD LOG --\n",
        );
        said.note("libbpf: failed to load object 'steer_bpf'\n");
        assert_eq!(
            said.first.as_deref(),
            Some("prog 'samepath_steer': BPF program load failed: Permission denied")
        );
        assert_eq!(said.verifier.as_deref(), Some("R3 offset is outside of the packet"));
    }
}
