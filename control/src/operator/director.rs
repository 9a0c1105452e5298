//! Answers `samepath director SRC DST` from a view.

use std::borrow::Cow;
use std::net::IpAddr;

use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::cluster::view::View;
use samepath_dataplane::flow::{FlowKey, key_bytes};

use super::api;

/// Name of a hash mode, as in `--director-hash`.
pub fn mode_name(mode: DirectorHash) -> Cow<'static, str> {
    match mode {
        DirectorHash::IpPair => "ip-pair".into(),
        DirectorHash::FiveTuple => "five-tuple".into(),
    }
}

/// Who is Director of the flow between two ends, in this view.
///
/// Errors: ends of different IP versions, as a sentence.
pub fn answer(
    view: &View,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    proto: u8,
) -> Result<api::Director, String> {
    if src.0.is_ipv4() != dst.0.is_ipv4() {
        return Err(format!(
            "{} and {} are not of one IP version: a flow has two IPv4 or two IPv6 ends; correct one of them",
            src.0, dst.0
        ));
    }
    let (key, _) = FlowKey::new((key_bytes(src.0), src.1), (key_bytes(dst.0), dst.1), proto, (0, 0));
    let bucket = view.director.bucket(&key);
    let director = view.director_of(&key);
    let candidates: Vec<u16> =
        view.director.ranking(bucket, &view.members).iter().map(|node| node.0).collect();
    let hashed = match view.director.mode() {
        DirectorHash::IpPair => format!("{} and {}", src.0, dst.0),
        DirectorHash::FiveTuple => {
            format!("protocol {proto} between {} port {} and {} port {}", src.0, src.1, dst.0, dst.1)
        }
    };
    let epoch = view.epoch;
    let chosen = match candidates.get(1) {
        Some(next) => format!(
            "in which node {director} draws the highest score of {} members in epoch {epoch}; if it died, node {next} would be next",
            candidates.len()
        ),
        None => format!("which node {director} holds as the only member in epoch {epoch}"),
    };
    let why = format!("{hashed} hash to bucket {bucket}, {chosen}");
    Ok(api::Director {
        src: src.0,
        dst: dst.0,
        bucket,
        director: director.0,
        candidates,
        mode: mode_name(view.director.mode()),
        epoch,
        why,
    })
}
