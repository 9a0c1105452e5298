//! Seeing what is on a link: captured by dumpcap, decoded by tshark. Nothing here uses samepath's parsers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bed::{Bed, Service};
use crate::netns::Namespace;
use crate::raw_port::RawPort;
use crate::{program, wait};

/// EtherType of the frame that marks the end of a capture (IEEE local experimental 2).
const MARKER_ETHERTYPE: [u8; 2] = [0x88, 0xb6];

const MARKER: &[u8] = b"samepath test bed: end of capture";

/// dumpcap writes to the file every half second or so.
const FLUSHED: Duration = Duration::from_secs(10);

/// What comes while dumpcap waits for a core: its buffers in the kernel, MiB per interface, and its own, in bytes and
/// packets (1,000 by default, beyond which it drops).
const BUFFERS: [&str; 6] = ["-B", "16", "-C", "500000000", "-N", "500000"];

/// A running capture of some interfaces of one namespace.
#[derive(Debug)]
pub struct Capture {
    service: Service,
    file: PathBuf,
    namespace: Namespace,
    interfaces: Vec<String>,
}

/// A captured frame as tshark decodes it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Interface it was seen on.
    pub interface: String,
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// When, as tshark writes it; sorts by time.
    time: String,
    layers: Value,
}

impl Bed {
    /// Starts to capture; returns when the capture runs.
    pub fn capture(&self, name: &str, namespace: &Namespace, interfaces: &[&str]) -> Result<Capture> {
        let file = self.logs().join(format!("{name}.pcapng"));
        fs::remove_file(&file).ok();
        let mut command = namespace.command("dumpcap");
        command.args(["-q", "-p", "-s", "0"]).args(BUFFERS).arg("-w").arg(&file);
        for interface in interfaces {
            command.args(["-i", interface]);
        }
        let mut service = self.start_service(&format!("{name}-dumpcap"), &mut command)?;
        wait::until_true("dumpcap captures", FLUSHED, || {
            if service.ended()?.is_some() {
                bail!("dumpcap ended: {}", service.log_tail());
            }
            Ok(fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0))
        })?;
        let interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
        Ok(Capture { service, file, namespace: namespace.clone(), interfaces })
    }

    /// [`Bed::capture`] of the cluster link: every port of the switch.
    pub fn capture_cluster(&self, name: &str) -> Result<Capture> {
        self.capture(name, self.switch(), &["n1", "n2", "n3"])
    }
}

impl Capture {
    /// Ends the capture once everything sent so far is in the file, and decodes the frames that match
    /// the display filter, in the order of time.
    pub fn finish(self, display_filter: &str) -> Result<Vec<Frame>> {
        decode(&self.finish_file()?, display_filter)
    }

    /// Ends the capture once everything sent so far is in the file: a pcapng file whose interfaces have the numbers they
    /// were named in.
    pub fn finish_file(mut self) -> Result<PathBuf> {
        self.mark()?;
        let file = self.file.clone();
        self.stop()?;
        Ok(file)
    }

    /// Ends the capture without looking at it; the file stays in the log folder.
    pub fn stop(mut self) -> Result<()> {
        self.service.signal(Signal::SIGINT)?;
        self.service.wait(FLUSHED).map(drop)
    }

    /// Sends a marker out of every captured interface and waits until the file has them all.
    fn mark(&mut self) -> Result<()> {
        for interface in &self.interfaces {
            let mut frame = vec![0x02, 0xee, 0, 0, 0, 1, 0x02, 0xee, 0, 0, 0, 2];
            frame.extend_from_slice(&MARKER_ETHERTYPE);
            frame.extend_from_slice(MARKER);
            RawPort::open(&self.namespace, interface)?.send(&frame)?;
        }
        wait::until_true("the end marker is in the capture", FLUSHED, || {
            let bytes = fs::read(&self.file)?;
            let seen = bytes.windows(MARKER.len()).filter(|window| *window == MARKER).count();
            Ok(seen >= self.interfaces.len())
        })
    }
}

fn decode(file: &PathBuf, display_filter: &str) -> Result<Vec<Frame>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-Y", display_filter]);
    tshark.args(["-T", "json", "-x", "--no-duplicate-keys"]);
    // Checksums are not the subject: the dataplane must carry wrong ones unchanged.
    let json = program::run(&mut tshark)?;
    let packets: Vec<Value> = serde_json::from_str(&json).context("tshark's JSON")?;
    let mut frames: Vec<Frame> = packets.into_iter().map(Frame::new).collect::<Result<_>>()?;
    // dumpcap reads interfaces one after another: the file is not in order of time across them.
    frames.sort_by(|one, other| one.time.cmp(&other.time));
    Ok(frames)
}

impl Frame {
    fn new(packet: Value) -> Result<Self> {
        let layers = packet["_source"]["layers"].clone();
        let hex = layers["frame_raw"][0].as_str().context("tshark gave no bytes")?;
        let (interface, time) = (String::new(), String::new());
        let mut frame = Self { interface, bytes: unhex(hex)?, time, layers };
        frame.interface = frame.field("frame.interface_name")?;
        frame.time = frame.field("frame.time_epoch")?;
        Ok(frame)
    }

    /// Every value of a tshark field, outermost header first.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.layers, name, &mut found);
        found
    }

    /// The first value of a tshark field.
    pub fn field(&self, name: &str) -> Result<String> {
        let first = self.fields(name).into_iter().next();
        first.with_context(|| format!("tshark shows no {name} in this frame"))
    }

    /// A numeric field, decimal or 0x-hexadecimal.
    pub fn number(&self, name: &str) -> Result<u64> {
        let text = self.field(name)?;
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        parsed.with_context(|| format!("{name}={text} is not a number"))
    }

    /// The frame that a Geneve tunnel carries: what follows tshark's Geneve header.
    pub fn tunnelled(&self) -> Result<&[u8]> {
        let header = &self.layers["geneve_raw"];
        let at = |index: usize| header[index].as_u64().context("tshark shows no Geneve header");
        let start = (at(1)? + at(2)?) as usize;
        self.bytes.get(start..).context("the Geneve header is longer than the frame")
    }

    /// Value of a field of bytes (`aa:bb:…`).
    pub fn byte_field(&self, name: &str) -> Result<Vec<u8>> {
        unhex(&self.field(name)?.replace(':', ""))
    }
}

fn collect(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == name => found.push(text.clone()),
                    Value::Array(texts) if key == name => {
                        found.extend(texts.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => collect(value, name, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, name, found)),
        _ => {}
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        bail!("an odd number of hexadecimal digits: {text}");
    }
    digits.chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_any_depth_and_repeated() {
        let layers = serde_json::json!({
            "ip": [{"ip.src": "10.0.0.1"}, {"ip.src": "10.1.0.1"}],
            "geneve": {"geneve.options_tree": {"x": {"geneve.vni": "0x000007"}}},
        });
        let (interface, time) = (String::new(), String::new());
        let frame = Frame { interface, bytes: Vec::new(), time, layers };
        assert_eq!(frame.fields("ip.src"), ["10.0.0.1", "10.1.0.1"]);
        assert_eq!(frame.number("geneve.vni").unwrap(), 7);
        assert!(frame.field("tcp.port").is_err());
    }

    #[test]
    fn hexadecimal_digits_become_bytes() {
        assert_eq!(unhex("00ff10").unwrap(), [0, 255, 16]);
        assert!(unhex("0").is_err() && unhex("zz").is_err());
    }
}
