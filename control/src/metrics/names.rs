//! Every metric once: its name, its kind, and which number of `stats`, `status` or `members` it is.

use serde_json::Value;

/// How a metric moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Rises until the daemon restarts; `_total` is added to its name.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// What tells the values of a metric apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// There is one value.
    None,
    /// This label always has this value in this row.
    Fixed(&'static str, &'static str),
    /// The label's value is the name or number at the place of `*`, at `[field]` or at the end of the path.
    Key(&'static str),
}

/// A row: where a number is, and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without `_total`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its label.
    pub label: Label,
    /// Where it is: `*` stands for every key of an object, `[field]` for every item of an array, told apart by
    /// that field of the item.
    pub path: &'static str,
    /// What it counts.
    pub help: &'static str,
}

impl Label {
    /// The label's name; empty if there is none.
    pub fn key(&self) -> &'static str {
        match self {
            Label::None => "",
            Label::Fixed(key, _) | Label::Key(key) => key,
        }
    }

    /// What is at `path`, with this label's value.
    pub(super) fn values<'a>(&self, path: &str, document: &'a Value) -> Vec<(Option<String>, &'a Value)> {
        let mut found = vec![(None, document)];
        for step in path.split('.') {
            found = found.into_iter().flat_map(|(name, value)| below(step, name, value)).collect();
        }
        match *self {
            Label::None => found,
            Label::Fixed(_, fixed) => {
                found.into_iter().map(|(_, value)| (Some(fixed.to_owned()), value)).collect()
            }
            Label::Key(_) => found.into_iter().flat_map(|(name, value)| each(name, value)).collect(),
        }
    }
}

/// One step down a path.
fn below<'a>(step: &str, name: Option<String>, value: &'a Value) -> Vec<(Option<String>, &'a Value)> {
    match (step, step.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))) {
        ("*", _) => each(None, value),
        (_, Some(field)) => {
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            let named = |item: &Value| match &item[field] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            items.iter().map(|item| (Some(named(item)), item)).collect()
        }
        _ => value.get(step).map(|value| (name, value)).into_iter().collect(),
    }
}

/// The value itself if it has a name already or is no object; else all it holds.
fn each(name: Option<String>, value: &Value) -> Vec<(Option<String>, &Value)> {
    match value {
        Value::Object(fields) if name.is_none() => {
            fields.iter().map(|(key, value)| (Some(key.clone()), value)).collect()
        }
        _ => vec![(name, value)],
    }
}

const fn counter(name: &'static str, label: Label, path: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, label, path, help }
}

const fn gauge(name: &'static str, label: Label, path: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, label, path, help }
}

/// Every metric; rows of one name stand together.
pub const METRICS: &[Metric] = &[
    counter("samepath_rx_packets", Label::None, "rx", "Packets taken from the rings"),
    counter("samepath_tx_packets", Label::None, "tx", "Packets given to the rings"),
    counter(
        "samepath_rx_bytes",
        Label::None,
        "rx_bytes",
        "Bytes of packets taken from the rings, outer headers included",
    ),
    counter(
        "samepath_tx_bytes",
        Label::None,
        "tx_bytes",
        "Bytes of packets given to the rings, outer headers included",
    ),
    counter("samepath_drops", Label::Key("reason"), "drops", "Packets dropped"),
    counter("samepath_verdicts", Label::Key("verdict"), "verdicts", "Packets by verdict"),
    counter(
        "samepath_tunnel_tx_packets",
        Label::Fixed("kind", "query"),
        "tunnel.query_tx",
        "Packets sent through the tunnel",
    ),
    counter(
        "samepath_tunnel_tx_packets",
        Label::Fixed("kind", "first_packet"),
        "tunnel.first_packet_tx",
        "Packets sent through the tunnel",
    ),
    counter(
        "samepath_tunnel_tx_packets",
        Label::Fixed("kind", "redirect"),
        "tunnel.redirect_tx",
        "Packets sent through the tunnel",
    ),
    counter(
        "samepath_tunnel_tx_packets",
        Label::Fixed("kind", "gather"),
        "tunnel.gather_tx",
        "Packets sent through the tunnel",
    ),
    counter(
        "samepath_tunnel_rx_packets",
        Label::Fixed("kind", "query"),
        "tunnel.query_rx",
        "Packets received through the tunnel",
    ),
    counter(
        "samepath_tunnel_rx_packets",
        Label::Fixed("kind", "first_packet"),
        "tunnel.first_packet_rx",
        "Packets received through the tunnel",
    ),
    counter(
        "samepath_tunnel_rx_packets",
        Label::Fixed("kind", "redirect"),
        "tunnel.redirect_rx",
        "Packets received through the tunnel",
    ),
    counter(
        "samepath_tunnel_rx_packets",
        Label::Fixed("kind", "gather"),
        "tunnel.gather_rx",
        "Packets received through the tunnel",
    ),
    counter(
        "samepath_redirect_xdp_packets",
        Label::None,
        "tunnel.redirect_tx_xdp",
        "Redirects sent by the XDP program",
    ),
    counter(
        "samepath_redirect_xdp_bytes",
        Label::None,
        "tunnel.redirect_tx_xdp_bytes",
        "Bytes of redirects sent by the XDP program",
    ),
    counter(
        "samepath_tunnel_rejected_packets",
        Label::Key("reason"),
        "tunnel.rejected",
        "Tunnel packets refused",
    ),
    counter(
        "samepath_forwards_published",
        Label::None,
        "forwards.published",
        "Directions of flows handed to the XDP program",
    ),
    counter(
        "samepath_forwards_withdrawn",
        Label::None,
        "forwards.withdrawn",
        "Directions of flows taken back from the XDP program",
    ),
    counter(
        "samepath_forwards_refused",
        Label::None,
        "forwards.refused",
        "Directions of flows the XDP program had no room for",
    ),
    gauge("samepath_sessions", Label::Fixed("role", "owner"), "sessions.owner", "Sessions in the table"),
    gauge("samepath_sessions", Label::Fixed("role", "backup"), "sessions.backup", "Sessions in the table"),
    gauge("samepath_sessions", Label::Fixed("role", "claim"), "sessions.claim", "Sessions in the table"),
    gauge(
        "samepath_sessions_at_risk",
        Label::None,
        "sessions.at_risk",
        "Own sessions no peer has as they are now: what this node's death would cost",
    ),
    gauge(
        "samepath_sessions_yielding",
        Label::None,
        "sessions.yielding",
        "Sessions that give way to new ones",
    ),
    counter("samepath_sessions_created", Label::None, "sessions.created", "Sessions begun as Owner"),
    counter(
        "samepath_sessions_expired",
        Label::None,
        "sessions.expired",
        "Own sessions ended by their idle time",
    ),
    counter(
        "samepath_sessions_evicted",
        Label::Fixed("role", "owner"),
        "sessions.evicted",
        "Sessions that gave way to new ones",
    ),
    counter(
        "samepath_sessions_evicted",
        Label::Fixed("role", "backup"),
        "sessions.backups_evicted",
        "Sessions that gave way to new ones",
    ),
    counter(
        "samepath_sessions_evicted",
        Label::Fixed("role", "claim"),
        "sessions.claims_evicted",
        "Sessions that gave way to new ones",
    ),
    counter(
        "samepath_backups_refused",
        Label::None,
        "sessions.backups_refused",
        "Records of peers that found no room",
    ),
    counter(
        "samepath_sessions_refreshed",
        Label::None,
        "sessions.refreshed",
        "Sessions told again because their turn had come",
    ),
    counter(
        "samepath_insertions_crowded",
        Label::None,
        "sessions.crowded",
        "Insertions for which other sessions had to move",
    ),
    counter(
        "samepath_insertions_unplaced",
        Label::None,
        "sessions.unplaced",
        "Insertions refused although slots were free",
    ),
    counter(
        "samepath_announcements_put_off",
        Label::None,
        "sessions.put_off",
        "Announcements of sessions put off because peers are behind",
    ),
    counter("samepath_claims_granted", Label::None, "sessions.claims_granted", "Claims written as Director"),
    counter(
        "samepath_sessions_ended",
        Label::None,
        "sessions.ended",
        "Sessions ended because the policy allows them no longer",
    ),
    counter("samepath_takeovers", Label::None, "sessions.takeovers", "Sessions taken over from a dead Owner"),
    counter(
        "samepath_sessions_handed_over",
        Label::None,
        "sessions.handed_over",
        "Sessions handed over to a peer by a drain",
    ),
    counter(
        "samepath_sessions_handed_in",
        Label::None,
        "sessions.handed_in",
        "Sessions taken from a peer that drained",
    ),
    counter(
        "samepath_conflicts_lost",
        Label::None,
        "sessions.conflicts_lost",
        "Own sessions given up because a newer Owner was met",
    ),
    gauge("samepath_frames_limit", Label::None, "frames.total", "Frames of packet memory"),
    gauge(
        "samepath_frames",
        Label::Fixed("place", "free"),
        "frames.free",
        "Frames of packet memory by place",
    ),
    gauge(
        "samepath_frames",
        Label::Fixed("place", "kernel"),
        "frames.kernel",
        "Frames of packet memory by place",
    ),
    gauge(
        "samepath_frames",
        Label::Fixed("place", "hand"),
        "frames.hand",
        "Frames of packet memory by place",
    ),
    counter(
        "samepath_replication_sent_records",
        Label::Key("peer"),
        "replication.*.sent",
        "Last sequence number sent to the peer",
    ),
    counter(
        "samepath_replication_acked_records",
        Label::Key("peer"),
        "replication.*.acked",
        "Last sequence number the peer acknowledged",
    ),
    gauge(
        "samepath_replication_lag_records",
        Label::Key("peer"),
        "replication.*.lag_records",
        "Changes the peer has not acknowledged",
    ),
    gauge(
        "samepath_replication_lag_milliseconds",
        Label::Key("peer"),
        "replication.*.lag_ms",
        "Age of the oldest change the peer has not acknowledged",
    ),
    gauge(
        "samepath_replication_dirty_sessions",
        Label::Key("peer"),
        "replication.*.dirty",
        "Sessions waiting to be sent again",
    ),
    counter(
        "samepath_replication_resent_records",
        Label::Key("peer"),
        "replication.*.resent",
        "Records sent to the peer again",
    ),
    counter("samepath_xdp_frames", Label::Key("outcome"), "xdp", "Frames the XDP program saw"),
    counter(
        "samepath_ring_rx_dropped_frames",
        Label::None,
        "rings.rx_dropped",
        "Frames the kernel could not put into a ring",
    ),
    counter(
        "samepath_ring_rx_full_frames",
        Label::None,
        "rings.rx_ring_full",
        "Frames dropped because a receive ring was full",
    ),
    counter(
        "samepath_ring_fill_empty",
        Label::None,
        "rings.fill_empty",
        "Times the kernel found no free frame",
    ),
    counter(
        "samepath_ring_tx_invalid_frames",
        Label::None,
        "rings.tx_invalid",
        "Descriptors the kernel refused to send",
    ),
    counter(
        "samepath_policy_events_lost",
        Label::None,
        "logs_lost",
        "Events of policy rules with log that were not told",
    ),
    counter("samepath_hello_rx_messages", Label::None, "hello.rx", "Hello messages accepted"),
    counter("samepath_hello_tx_messages", Label::None, "hello.tx", "Hello messages sent"),
    counter("samepath_control_packets", Label::None, "control.packets", "QUIC packets at the control port"),
    counter(
        "samepath_control_taken_packets",
        Label::None,
        "control.taken",
        "QUIC packets that were authentic and new",
    ),
    counter(
        "samepath_control_discarded_packets",
        Label::Key("reason"),
        "control.discarded",
        "QUIC packets that were not believed",
    ),
    gauge(
        "samepath_control_keyless_packets",
        Label::None,
        "control.keyless",
        "QUIC packets there was no key for (any more), and those on their way inside",
    ),
    counter(
        "samepath_control_connections_failed",
        Label::None,
        "control.failed",
        "Connections accepted that came to no agreement",
    ),
    counter(
        "samepath_control_overrun_datagrams",
        Label::None,
        "control.overrun",
        "Datagrams at the control port the kernel had no room for",
    ),
    gauge("samepath_held_packets", Label::None, "held", "Packets waiting for a neighbour's link address"),
    counter("samepath_changes_resent", Label::None, "resent", "Session changes given to control again"),
    gauge(
        "samepath_changes_waiting",
        Label::None,
        "dirty",
        "Sessions whose change waits to be given to control again",
    ),
    counter(
        "samepath_tcp_window_loose_segments",
        Label::None,
        "tcp_window_loose",
        "Segments outside the window let through",
    ),
    gauge(
        "samepath_worker_core",
        Label::Key("worker"),
        "workers.[worker].core",
        "Core the worker is pinned to",
    ),
    counter(
        "samepath_worker_rx_packets",
        Label::Key("worker"),
        "workers.[worker].rx",
        "Packets the worker took from its rings",
    ),
    counter(
        "samepath_worker_tx_packets",
        Label::Key("worker"),
        "workers.[worker].tx",
        "Packets the worker gave to its rings",
    ),
    counter(
        "samepath_worker_dropped_packets",
        Label::Key("worker"),
        "workers.[worker].dropped",
        "Packets the worker dropped",
    ),
    counter(
        "samepath_worker_handoff_tx_packets",
        Label::Key("worker"),
        "workers.[worker].handoff_tx",
        "Packets and frames handed to other workers",
    ),
    counter(
        "samepath_worker_handoff_rx_packets",
        Label::Key("worker"),
        "workers.[worker].handoff_rx",
        "Packets and frames got from other workers",
    ),
    gauge(
        "samepath_worker_sessions",
        Label::Key("worker"),
        "workers.[worker].sessions",
        "Sessions in the worker's table",
    ),
    counter(
        "samepath_worker_fast_path_packets",
        Label::Key("worker"),
        "workers.[worker].fast_path",
        "Packets that took the fast path",
    ),
    counter(
        "samepath_worker_tunnel_keys",
        Label::Key("worker"),
        "workers.[worker].tunnel_keys",
        "Keys of peers taken into use",
    ),
    gauge(
        "samepath_worker_view_epoch",
        Label::Key("worker"),
        "workers.[worker].view_epoch",
        "Epoch of the view the worker uses",
    ),
    counter(
        "samepath_worker_turns",
        Label::Key("worker"),
        "workers.[worker].turns",
        "Turns of the worker's loop",
    ),
    counter(
        "samepath_worker_sleeps",
        Label::Key("worker"),
        "workers.[worker].sleeps",
        "Times the worker slept",
    ),
    counter(
        "samepath_worker_busy_nanoseconds",
        Label::Key("worker"),
        "workers.[worker].busy_ns",
        "Time of the worker's turns that found work",
    ),
    counter(
        "samepath_worker_demotions",
        Label::Key("worker"),
        "workers.[worker].demotions",
        "Times the worker was made an ordinary thread",
    ),
    gauge(
        "samepath_ready",
        Label::None,
        "status.ready",
        "1 if the node takes its part, as samepath status says",
    ),
    gauge("samepath_uptime_seconds", Label::None, "status.uptime_s", "Seconds since the start"),
    gauge("samepath_view_epoch", Label::None, "status.epoch", "Epoch of the present view"),
    gauge(
        "samepath_interface_up",
        Label::Key("interface"),
        "status.interfaces.[name].up",
        "1 if the link of the interface is there",
    ),
    gauge(
        "samepath_member_live",
        Label::Key("node"),
        "members.members.[node].live",
        "1 if the node is in the present view",
    ),
    gauge(
        "samepath_member_connected",
        Label::Key("node"),
        "members.members.[node].connected",
        "1 if the control channel to the node is up",
    ),
    gauge(
        "samepath_quorate",
        Label::None,
        "members.quorate",
        "1 if there are as many members as --quorum asks for",
    ),
    counter(
        "samepath_answers",
        Label::Fixed("kind", "time_exceeded"),
        "answers.time_exceeded",
        "Packets answered by an ICMP error",
    ),
    counter(
        "samepath_answers",
        Label::Fixed("kind", "unreachable"),
        "answers.unreachable",
        "Packets answered by an ICMP error",
    ),
    counter(
        "samepath_answers",
        Label::Fixed("kind", "too_big"),
        "answers.too_big",
        "Packets answered by an ICMP error",
    ),
    counter(
        "samepath_answers_suppressed",
        Label::None,
        "answers.suppressed",
        "ICMP errors that --icmp-rate kept back",
    ),
    counter(
        "samepath_fragments_made",
        Label::None,
        "fragments_made",
        "Fragments made of packets that were cut, beyond one each",
    ),
    counter(
        "samepath_prompted",
        Label::None,
        "prompted",
        "Ends of proxied connections asked where they are because their Owner died",
    ),
    gauge(
        "samepath_fragments_waiting",
        Label::None,
        "fragments_waiting",
        "Fragments that wait for the first one of their packet",
    ),
    counter(
        "samepath_mss_clamped",
        Label::None,
        "mss_clamped",
        "SYNs whose maximum segment size was lowered",
    ),
    counter(
        "samepath_service_to_packets",
        Label::Key("service"),
        "services.*.to",
        "Packets given to the service",
    ),
    counter(
        "samepath_service_from_packets",
        Label::Key("service"),
        "services.*.from",
        "Packets that came from the service",
    ),
];
