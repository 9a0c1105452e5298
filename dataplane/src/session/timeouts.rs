//! Idle times: named and valued like nf_conntrack's sysctls, every one settable.
//!
//! Command line (`--timeout NAME=SECONDS`), TOML keys and documentation all derive from the one list
//! below. Sysctl names are in
//! <https://docs.kernel.org/networking/nf_conntrack-sysctl.html>.

use crate::flow::proto;
use crate::session::record::State;

/// Longest idle time that can be set, seconds. Milliseconds in 32 bits would reach 49 days; the timer
/// wheel keeps any length, but one more than this has always been a typing error.
pub const MAX_TIMEOUT_S: u32 = 30 * 86_400;

/// Name, default and meaning of one idle time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeoutName {
    /// As in `--timeout NAME=SECONDS`; nf_conntrack's sysctl without `nf_conntrack_` and `_timeout`.
    pub name: &'static str,
    /// Seconds, the kernel's value.
    pub default_s: u32,
    /// What it bounds.
    pub doc: &'static str,
}

/// Why an idle time was not set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnknownTimeout {
    /// No idle time has this name.
    #[error("timeout {0:?} is unknown; valid names are {names}", names = Timeouts::name_list())]
    Name(String),
    /// The value is zero or longer than [`MAX_TIMEOUT_S`].
    #[error("timeout {name} = {seconds} s is out of range; give 1 to {MAX_TIMEOUT_S} seconds")]
    Value {
        /// The idle time.
        name: &'static str,
        /// What was asked for.
        seconds: u32,
    },
}

macro_rules! timeouts {
    ($($(#[doc = $doc:literal])+ $field:ident = $seconds:literal;)+) => {
        /// Idle times in milliseconds.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct Timeouts { $($(#[doc = $doc])+ pub $field: u32,)+ }

        impl Default for Timeouts {
            /// The kernel's values.
            fn default() -> Self {
                Self { $($field: $seconds * 1000,)+ }
            }
        }

        impl Timeouts {
            /// Every idle time, in the order of the documentation.
            pub const NAMES: &'static [TimeoutName] = &[$(TimeoutName {
                name: stringify!($field),
                default_s: $seconds,
                doc: concat!($($doc),+).trim_ascii(),
            }),+];

            /// Seconds of the idle time called `name`.
            pub fn get(&self, name: &str) -> Option<u32> {
                match name {
                    $(stringify!($field) => Some(self.$field / 1000),)+
                    _ => None,
                }
            }

            fn field(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $(stringify!($field) => Some(&mut self.$field),)+
                    _ => None,
                }
            }
        }
    };
}

timeouts! {
    /// TCP: SYN seen, no answer yet (also both ends' SYN seen).
    tcp_syn_sent = 120;
    /// TCP: SYN-ACK seen, not yet acknowledged.
    tcp_syn_recv = 60;
    /// TCP: established, everything acknowledged.
    tcp_established = 432_000;
    /// TCP: first FIN seen.
    tcp_fin_wait = 120;
    /// TCP: first FIN acknowledged, the other end still open.
    tcp_close_wait = 60;
    /// TCP: second FIN seen.
    tcp_last_ack = 30;
    /// TCP: second FIN acknowledged.
    tcp_time_wait = 120;
    /// TCP: reset seen.
    tcp_close = 10;
    /// TCP: the same segment was sent four times without an answer, or a window is closed.
    tcp_max_retrans = 300;
    /// TCP: data or a picked-up segment is not acknowledged yet.
    tcp_unacknowledged = 300;
    /// UDP: only one end has spoken.
    udp = 30;
    /// UDP: both ends have spoken.
    udp_stream = 120;
    /// ICMP queries over IPv4.
    icmp = 30;
    /// ICMP queries over IPv6.
    icmpv6 = 30;
    /// Protocols without a tracker of their own.
    generic = 600;
    /// SCTP: INIT seen.
    sctp_cookie_wait = 3;
    /// SCTP: COOKIE-ECHO seen.
    sctp_cookie_echoed = 3;
    /// SCTP: association complete.
    sctp_established = 210;
    /// SCTP: SHUTDOWN seen, from either end.
    sctp_shutdown_sent = 3;
    /// SCTP: SHUTDOWN-ACK seen.
    sctp_shutdown_ack_sent = 3;
    /// SCTP: association ended.
    sctp_closed = 10;
}

impl Timeouts {
    /// Sets the idle time called `name`, in seconds.
    pub fn set(&mut self, name: &str, seconds: u32) -> Result<(), UnknownTimeout> {
        let known = Self::NAMES.iter().find(|known| known.name == name);
        let (Some(known), Some(field)) = (known, self.field(name)) else {
            return Err(UnknownTimeout::Name(name.to_owned()));
        };
        if !(1..=MAX_TIMEOUT_S).contains(&seconds) {
            return Err(UnknownTimeout::Value { name: known.name, seconds });
        }
        *field = seconds * 1000;
        Ok(())
    }

    /// Idle time of a state, ms. `protocol` (IANA number) tells ICMPv6 from ICMP; a claim, whose
    /// protocol state is unknown, gets the generic one.
    pub fn of(&self, state: State, protocol: u8) -> u32 {
        match state {
            State::TcpSynSent | State::TcpSynSent2 => self.tcp_syn_sent,
            State::TcpSynRecv => self.tcp_syn_recv,
            State::TcpEstablished => self.tcp_established,
            State::TcpFinWait => self.tcp_fin_wait,
            State::TcpCloseWait => self.tcp_close_wait,
            State::TcpLastAck => self.tcp_last_ack,
            State::TcpTimeWait => self.tcp_time_wait,
            State::TcpClose => self.tcp_close,
            State::UdpUnreplied => self.udp,
            State::UdpReplied => self.udp_stream,
            State::IcmpQuery if protocol == proto::ICMPV6 => self.icmpv6,
            State::IcmpQuery => self.icmp,
            State::SctpCookieWait => self.sctp_cookie_wait,
            State::SctpCookieEchoed => self.sctp_cookie_echoed,
            State::SctpEstablished => self.sctp_established,
            State::SctpShutdown => self.sctp_shutdown_sent,
            State::SctpShutdownAck => self.sctp_shutdown_ack_sent,
            State::SctpClosed => self.sctp_closed,
            State::Generic | State::Claimed => self.generic,
        }
    }

    /// The valid names, for messages.
    fn name_list() -> String {
        Self::NAMES.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_kernels() {
        let timeouts = Timeouts::default();
        for known in Timeouts::NAMES {
            assert_eq!(timeouts.get(known.name), Some(known.default_s), "{}", known.name);
            assert!(!known.doc.is_empty() && known.doc.ends_with('.'), "{}", known.name);
        }
        assert_eq!(timeouts.tcp_established, 432_000_000);
        assert_eq!(timeouts.get("udp"), Some(30));
        assert_eq!(timeouts.get("nonsense"), None);
    }

    #[test]
    fn every_name_sets_its_own_field_only() {
        for known in Timeouts::NAMES {
            let mut timeouts = Timeouts::default();
            timeouts.set(known.name, 7).unwrap();
            let changed: Vec<_> = Timeouts::NAMES
                .iter()
                .filter(|other| timeouts.get(other.name) != Some(other.default_s))
                .map(|other| other.name)
                .collect();
            assert_eq!(changed, [known.name]);
        }
    }

    #[test]
    fn refusals_say_what_is_valid() {
        let mut timeouts = Timeouts::default();
        let unknown = timeouts.set("tcp_estblished", 60).unwrap_err().to_string();
        assert!(unknown.contains("\"tcp_estblished\" is unknown"), "{unknown}");
        assert!(unknown.contains("tcp_established, tcp_fin_wait"), "{unknown}");
        for seconds in [0, MAX_TIMEOUT_S + 1, u32::MAX] {
            let refused = timeouts.set("udp", seconds).unwrap_err().to_string();
            assert!(refused.contains("1 to 2592000 seconds"), "{refused}");
        }
        assert_eq!(timeouts, Timeouts::default(), "a refusal changes nothing");
        timeouts.set("udp", MAX_TIMEOUT_S).unwrap();
        assert_eq!(timeouts.udp, 2_592_000_000);
    }

    #[test]
    fn icmp_of_both_versions_has_its_own() {
        let mut timeouts = Timeouts::default();
        timeouts.set("icmpv6", 5).unwrap();
        assert_eq!(timeouts.of(State::IcmpQuery, proto::ICMPV6), 5_000);
        assert_eq!(timeouts.of(State::IcmpQuery, proto::ICMP), 30_000);
    }
}
