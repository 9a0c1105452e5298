//! Shows the program one frame without an interface receiving it (`BPF_PROG_TEST_RUN`).

use std::time::Duration;

use libbpf_rs::ProgramInput;

use crate::error::SteeringError;
use crate::layout::{FORWARD_HEADERS, METADATA_SIZE, has_metadata};
use crate::steering::Steering;

/// Words of `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
const CONTEXT_WORDS: usize = 6;

/// What the program told the kernel to do with a frame (`enum xdp_action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The program failed.
    Aborted,
    /// Forget the frame.
    Drop,
    /// Give it to the kernel's network stack.
    Pass,
    /// Send it back.
    Tx,
    /// Give it to the AF_XDP socket, or send it out of the cluster link.
    Redirect,
}

/// How the program dealt with one frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestRun {
    /// What the kernel would do.
    pub action: Action,
    /// The outcome's name, one of [`crate::OUTCOMES`].
    pub outcome: &'static str,
    /// Whether the frame is one for samepath: `steered`, `steered_tunnel`, or `no_socket`.
    pub steered: bool,
    /// What was written in front of a steered frame (`struct sp_layout`, native byte order).
    pub metadata: Option<[u8; METADATA_SIZE]>,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// How long the program ran.
    pub duration: Duration,
}

impl Steering {
    /// Runs the program on `frame` as if interface `ifindex` had received it on queue 0.
    ///
    /// The interface must exist in this network namespace (1 is the loopback) and be made known by
    /// [`Steering::attach`] or [`Steering::set_port`]. The kernel takes frames of 14 to about 3500 bytes.
    /// The outcome is read from the counters, so no attached interface may receive frames meanwhile.
    pub fn test_run(&self, frame: &[u8], ifindex: u32) -> Result<TestRun, SteeringError> {
        let _alone = self.one_test_run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let length = frame.len();
        let mut context = [0u32; CONTEXT_WORDS];
        context[1] = length as u32;
        context[3] = ifindex;
        let mut context_in = words_to_bytes(&context);
        let mut context_out = [0u8; 4 * CONTEXT_WORDS];
        let mut data = vec![0u8; length + METADATA_SIZE + FORWARD_HEADERS];
        let before = self.counters()?;
        let output = self
            .skeleton
            .progs
            .samepath_steer
            .test_run(ProgramInput {
                context_in: Some(&mut context_in),
                context_out: Some(&mut context_out),
                data_in: Some(frame),
                data_out: Some(&mut data),
                repeat: 1,
                ..Default::default()
            })
            .map_err(|source| SteeringError::TestRun { length, ifindex, source })?;
        let action = match output.return_value {
            libbpf_sys::XDP_DROP => Action::Drop,
            libbpf_sys::XDP_PASS => Action::Pass,
            libbpf_sys::XDP_TX => Action::Tx,
            libbpf_sys::XDP_REDIRECT => Action::Redirect,
            _ => Action::Aborted,
        };
        let duration = output.duration;
        let written = output.data.map_or(0, |data| data.len());
        let after = self.counters()?;
        let mut moved = before.iter().zip(&after).filter(|((_, then), (_, now))| then != now);
        let outcome = match (moved.next(), moved.next()) {
            (Some(((name, then), (_, now))), None) if now - then == 1 => *name,
            _ => return Err(SteeringError::TestRunDisturbed),
        };
        let steered = has_metadata(outcome);
        let metadata: Option<[u8; METADATA_SIZE]> = data.first_chunk().filter(|_| steered).copied();
        let in_front = metadata.map_or(0, |bytes| bytes.len());
        let frame = data.get(in_front..written).unwrap_or_default().to_vec();
        Ok(TestRun { action, outcome, steered, metadata, frame, duration })
    }
}

fn words_to_bytes(words: &[u32; CONTEXT_WORDS]) -> [u8; 4 * CONTEXT_WORDS] {
    let mut bytes = [0; 4 * CONTEXT_WORDS];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
