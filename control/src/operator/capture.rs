//! `samepath capture`: packets of one node as pcapng, with verdict and reason in each one's comment.
//!
//! ```text
//! section header
//! interface description     at the first packet of the interface
//! enhanced packet           in: as it arrived, before anything was done with it    } one packet id,
//! enhanced packet           out: as it left, if it did                             } queue, comment
//! interface statistics      in the end: how many there were, and what was missed
//! ```

mod pcapng;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use samepath_dataplane::clock::wall_ns;

use super::client::{ClientError, FINE, complain};
use super::looking::{Looking, missed};
use super::trace::story::{in_short, told};
use super::watch::{NodeWatched, PacketFilter, Seen, WatchOrder};
use pcapng::{Direction, Packet};

/// What is to be captured.
#[derive(Clone, Debug)]
pub struct CaptureOrder {
    /// Which packets.
    pub filter: PacketFilter,
    /// Where to; `-` is the standard output.
    pub file: PathBuf,
    /// Packets at most.
    pub count: u64,
    /// Bytes of each frame.
    pub snap: u16,
    /// Slots between each worker and control.
    pub slots: u32,
    /// How long; `None`: until there are enough, or Ctrl-C.
    pub timeout: Option<Duration>,
}

/// Captures into the file.
pub fn run(socket: Option<&Path>, order: &CaptureOrder) -> Result<u8, ClientError> {
    let asked = WatchOrder {
        id: 0,
        filter: order.filter.clone(),
        snap: order.snap,
        slots: order.slots,
        frames: true,
        arrived: Vec::new(),
        end: false,
        here: true,
    };
    let failed = |error: io::Error| named(&order.file, &error);
    let mut looking = Looking::begin(socket, asked, order.timeout)?;
    let mut writer = Writer::open(order).map_err(failed)?;
    let mut last = NodeWatched::default();
    while writer.packets < order.count && !looking.is_over() {
        let watched = looking.look()?;
        let Some(node) = watched.nodes.into_iter().next() else { continue };
        for seen in &node.seen {
            if writer.packets < order.count {
                writer.packet(seen).map_err(failed)?;
            }
        }
        writer.file.flush().map_err(failed)?;
        last = NodeWatched { seen: Vec::new(), ..node };
    }
    let rest = looking.end()?.nodes.into_iter().next().unwrap_or(last);
    for seen in &rest.seen {
        if writer.packets < order.count {
            writer.packet(seen).map_err(failed)?;
        }
    }
    writer.finish(&rest).map_err(failed)?;
    complain(&format_args!("{} packets captured", writer.packets));
    if let Some(sentence) = missed(&rest) {
        complain(&sentence);
    }
    Ok(FINE)
}

fn named(file: &Path, error: &io::Error) -> ClientError {
    ClientError::Output(io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

/// A file under way.
struct Writer {
    file: BufWriter<Box<dyn Write>>,
    snap: u16,
    /// Packets that arrived.
    packets: u64,
    /// By interface: its name, and how many frames of it there are.
    interfaces: Vec<(String, u64)>,
}

impl Writer {
    fn open(order: &CaptureOrder) -> io::Result<Self> {
        let file: Box<dyn Write> = match order.file.as_os_str() == "-" {
            true => Box::new(io::stdout()),
            false => Box::new(File::create(&order.file)?),
        };
        let mut file = BufWriter::new(file);
        file.write_all(&pcapng::section(concat!("samepath ", env!("CARGO_PKG_VERSION"))))?;
        Ok(Self { file, snap: order.snap, packets: 0, interfaces: Vec::new() })
    }

    /// A packet as it arrived and as it left.
    fn packet(&mut self, seen: &Seen) -> io::Result<()> {
        self.packets += u64::from(!seen.waited);
        let comment = format!("verdict: {}; {}", in_short(seen), told(seen));
        let frame = |text: &Option<String>| text.as_ref().and_then(|text| STANDARD.decode(text).ok());
        let common = Packet {
            interface: 0,
            at_ns: seen.at_ns,
            length: seen.length,
            bytes: &[],
            direction: Direction::In,
            queue: seen.queue,
            id: u64::from_str_radix(&seen.packet, 16).unwrap_or(0),
            comment: &comment,
        };
        // One that waited is in the file already, as it arrived.
        if let Some(bytes) = frame(&seen.frame).filter(|_| !seen.waited) {
            let interface = self.interface(&seen.interface)?;
            self.file.write_all(&pcapng::packet(&Packet { interface, bytes: &bytes, ..common }))?;
        }
        if let (Some(bytes), Some(out)) = (frame(&seen.frame_left), &seen.out) {
            let interface = self.interface(&out.interface)?;
            let (length, queue, direction) = (out.length, Some(out.queue), Direction::Out);
            let packet = Packet { interface, length, bytes: &bytes, direction, queue, ..common };
            self.file.write_all(&pcapng::packet(&packet))?;
        }
        Ok(())
    }

    /// Number of the interface of the next frame; described when it is met for the first time.
    fn interface(&mut self, name: &str) -> io::Result<u32> {
        let known = self.interfaces.iter().position(|(known, _)| known == name);
        let at = match known {
            Some(at) => at,
            None => {
                self.file.write_all(&pcapng::interface(name, self.snap))?;
                self.interfaces.push((name.into(), 0));
                self.interfaces.len() - 1
            }
        };
        self.interfaces[at].1 += 1;
        Ok(at as u32)
    }

    /// Writes how many there were, and what was missed.
    fn finish(&mut self, node: &NodeWatched) -> io::Result<()> {
        let now = wall_ns();
        for (at, (_, frames)) in self.interfaces.iter().enumerate() {
            // Of which interface they were is not known.
            let (count, sentence) = match at {
                0 => (node.missed_full + node.missed_rate, missed(node)),
                _ => (0, None),
            };
            let comment = sentence.unwrap_or_default();
            self.file.write_all(&pcapng::statistics(at as u32, now, *frames, count, &comment))?;
        }
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
