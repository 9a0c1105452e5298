//! Finds the captures and reads their frames, and counts what it could not read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// Number of Ethernet in the registry of link types.
const ETHERNET: u32 = 1;

/// Upper bits of a pcap file's link type say how long the frame check sequence is.
const LINK_TYPE: u32 = 0xffff;

/// First bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// What was in the folder.
#[derive(Default)]
pub struct Totals {
    /// Files whose frames (some, in pcapng) are Ethernet.
    pub ethernet_files: usize,
    /// Files without an Ethernet frame, by link type.
    pub other_files: BTreeMap<u32, usize>,
    /// Files without a frame that could be read.
    pub empty_files: usize,
    /// Files whose end could not be read, and why.
    pub broken_files: Vec<String>,
    /// Ethernet frames.
    pub frames: usize,
    /// Frames of other link types in files that also hold Ethernet.
    pub other_frames: usize,
}

/// Prints a line that is seen although the test passes (the test runner keeps back what `println` prints):
/// what was skipped must not be silent.
pub fn say(line: &str) {
    // Nobody is there to hear of a closed standard error.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The folder of captures: `SAMEPATH_CAPTURES`, or `../shared/captures` beside the repository. `None`,
/// with a line that says so, if it is not there.
pub fn folder(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    let folder = std::env::var_os("SAMEPATH_CAPTURES").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    say(&format!(
        "skipped: {test}: no captures at {}; set SAMEPATH_CAPTURES to a folder of .pcap files",
        folder.display()
    ));
    None
}

/// Calls `visit` with file name, number in the file (from 1) and bytes of every Ethernet frame.
pub fn each_frame(folder: &Path, mut visit: impl FnMut(&str, usize, &[u8])) -> Result<Totals> {
    let mut totals = Totals::default();
    for path in capture_files(folder)? {
        let name = path.strip_prefix(folder)?.display().to_string();
        let bytes = fs::read(&path).with_context(|| format!("cannot read {name}"))?;
        let mut number = 0;
        let mut links: BTreeMap<u32, usize> = BTreeMap::new();
        let end = read_frames(&bytes, &mut |link, frame| {
            number += 1;
            let link = link & LINK_TYPE;
            *links.entry(link).or_default() += 1;
            if link == ETHERNET {
                visit(&name, number, frame);
            }
        });
        if let Err(error) = end {
            totals.broken_files.push(format!("{name}: {error:#}"));
        }
        let ethernet = links.remove(&ETHERNET).unwrap_or(0);
        totals.frames += ethernet;
        if ethernet > 0 {
            totals.ethernet_files += 1;
            totals.other_frames += links.values().sum::<usize>();
        } else if let Some(link) = links.keys().next() {
            *totals.other_files.entry(*link).or_default() += 1;
        } else {
            totals.empty_files += 1;
        }
    }
    Ok(totals)
}

/// Files that end in .pcap or .pcapng, in a fixed order.
fn capture_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if matches!(extension, Some("pcap" | "pcapng")) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Calls `visit` with link type and bytes of each frame until the end or the first thing that is no
/// frame.
fn read_frames(bytes: &[u8], visit: &mut dyn FnMut(u32, &[u8])) -> Result<()> {
    if bytes.starts_with(&PCAPNG) {
        return read_pcapng(bytes, visit);
    }
    let mut reader = PcapReader::new(bytes)?;
    let link = u32::from(reader.header().datalink);
    while let Some(packet) = reader.next_raw_packet() {
        visit(link, &packet?.data);
    }
    Ok(())
}

fn read_pcapng(bytes: &[u8], visit: &mut dyn FnMut(u32, &[u8])) -> Result<()> {
    let mut reader = PcapNgReader::new(bytes)?;
    let mut links: Vec<DataLink> = Vec::new();
    while let Some(block) = reader.next_block() {
        let link = |id: u32| links.get(id as usize).copied().map_or(u32::MAX, u32::from);
        match block? {
            Block::SectionHeader(_) => links.clear(),
            Block::InterfaceDescription(interface) => links.push(interface.linktype),
            Block::EnhancedPacket(packet) => visit(link(packet.interface_id), &packet.data),
            Block::SimplePacket(packet) => visit(link(0), &packet.data),
            Block::Packet(packet) => visit(link(packet.interface_id.into()), &packet.data),
            _ => {}
        }
    }
    Ok(())
}
