//! Receive side scaling: do both directions of a flow arrive in the same queue, and can that be had?
//!
//! ```text
//! struct ethtool_rxfh (include/uapi/linux/ethtool.h), as words:
//! | 0 cmd | 1 context | 2 indir_size | 3 key_size | 4 hfunc:8 input_xfrm:8 0:16 | 5 0 | indir … | key … |
//! ```
//! Untested on hardware: no network card with more than one queue was at hand. The tests below play the
//! kernel.

use std::io;

use super::ethtool::{self, Request};

const ETHTOOL_GRSSH: u32 = 0x46;
const ETHTOOL_SRSSH: u32 = 0x47;
/// Leave the indirection table as it is (`ETH_RXFH_INDIR_NO_CHANGE`); 0 would reset it.
const INDIR_NO_CHANGE: u32 = u32::MAX;
/// Bits of `hfunc`: Toeplitz, and plain XOR, which is symmetric by nature.
const HASH_TOEPLITZ: u8 = 1;
const HASH_XOR: u8 = 2;
/// Bits of `input_xfrm` (since 6.8): source and destination are XORed, or ORed and XORed, before hashing.
const SYM_XOR: u8 = 1;
const SYM_OR_XOR: u8 = 2;
/// Toeplitz with a key that repeats every 16 bits hashes both directions alike (Woo and Park, 2012).
const SYMMETRIC_PAIR: [u8; 2] = [0x6d, 0x5a];
const HEADER_WORDS: usize = 6;

/// Where an interface puts the two directions of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rss {
    /// Into the same queue.
    Symmetric,
    /// Into queues that have nothing to do with each other.
    Asymmetric,
    /// The driver does not say.
    Unknown,
}

impl Rss {
    /// As `samepath status` says it.
    pub fn name(self) -> &'static str {
        match self {
            Rss::Symmetric => "symmetric",
            Rss::Asymmetric => "asymmetric",
            Rss::Unknown => "unknown",
        }
    }
}

/// How an interface spreads packets, apart from its indirection table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RssSetting {
    hash: u8,
    transform: u8,
    key: Vec<u8>,
}

impl RssSetting {
    fn judge(&self) -> Rss {
        if self.transform & (SYM_XOR | SYM_OR_XOR) != 0 || self.hash == HASH_XOR {
            return Rss::Symmetric;
        }
        if self.key.len() < 4 || self.hash & HASH_TOEPLITZ == 0 {
            return Rss::Unknown;
        }
        let repeats = self.key.iter().zip(&self.key[2..]).all(|(a, b)| a == b);
        // A key of equal bytes throughout repeats too, but spreads little: as symmetric as any.
        if repeats { Rss::Symmetric } else { Rss::Asymmetric }
    }
}

/// One request; see the layout above.
struct Rxfh(Vec<u32>);

// SAFETY: the sizes in the header are those of the vector, see `Rxfh::get` and `Rxfh::set`; numbers only.
unsafe impl Request for Rxfh {
    fn start(&mut self) -> *mut libc::c_char {
        self.0.as_mut_ptr().cast()
    }
}

impl Rxfh {
    fn get(indir_size: u32, key_size: u32) -> Self {
        let words = HEADER_WORDS + indir_size as usize + (key_size as usize).div_ceil(4);
        let mut request = vec![0; words];
        request[0] = ETHTOOL_GRSSH;
        request[2] = indir_size;
        request[3] = key_size;
        Self(request)
    }

    fn set(setting: &RssSetting) -> Self {
        let mut request = Self::get(0, setting.key.len() as u32);
        request.0[0] = ETHTOOL_SRSSH;
        request.0[2] = INDIR_NO_CHANGE;
        request.0[4] = u32::from_ne_bytes([setting.hash, setting.transform, 0, 0]);
        for (word, four) in request.0[HEADER_WORDS..].iter_mut().zip(setting.key.chunks(4)) {
            let mut bytes = [0; 4];
            bytes[..four.len()].copy_from_slice(four);
            *word = u32::from_ne_bytes(bytes);
        }
        request
    }

    /// What a filled request says.
    fn setting(&self) -> RssSetting {
        let [hash, transform, ..] = self.0[4].to_ne_bytes();
        let start = HEADER_WORDS + self.0[2] as usize;
        let key = self.0[start..].iter().flat_map(|word| word.to_ne_bytes());
        RssSetting { hash, transform, key: key.take(self.0[3] as usize).collect() }
    }
}

/// Carries out one request; the kernel, or a test in its place.
type Ask<'a> = &'a mut dyn FnMut(&mut Rxfh) -> io::Result<()>;

fn read(ask: Ask<'_>) -> io::Result<RssSetting> {
    let mut sizes = Rxfh::get(0, 0);
    ask(&mut sizes)?;
    let mut full = Rxfh::get(sizes.0[2], sizes.0[3]);
    if sizes.0[2] > 0 || sizes.0[3] > 0 {
        ask(&mut full)?;
    } else {
        full = sizes;
    }
    Ok(full.setting())
}

/// How `interface` spreads flows now.
pub fn rss(interface: &str) -> Rss {
    read(&mut |request| ethtool::ask(interface, request)).map_or(Rss::Unknown, |setting| setting.judge())
}

/// Makes `interface` symmetric if its driver can. `Some`: what was set before, for [`restore_rss`];
/// `None`: nothing was changed. Errors: the driver refused every way there is.
pub fn symmetric_rss(interface: &str) -> io::Result<Option<RssSetting>> {
    make_symmetric(&mut |request| ethtool::ask(interface, request))
}

/// Takes back what [`symmetric_rss`] changed.
pub fn restore_rss(interface: &str, setting: &RssSetting) -> io::Result<()> {
    ethtool::ask(interface, &mut Rxfh::set(setting))
}

fn make_symmetric(ask: Ask<'_>) -> io::Result<Option<RssSetting>> {
    let Ok(before) = read(ask) else { return Ok(None) };
    if before.judge() != Rss::Asymmetric {
        return Ok(None);
    }
    let transform = RssSetting { transform: before.transform | SYM_XOR, ..before.clone() };
    let key = SYMMETRIC_PAIR.iter().copied().cycle().take(before.key.len()).collect();
    let mut refusal = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    for wanted in [transform, RssSetting { key, ..before.clone() }] {
        match ask(&mut Rxfh::set(&wanted)) {
            // A driver may accept what it does not do.
            Ok(()) if read(ask)?.judge() == Rss::Symmetric => return Ok(Some(before)),
            Ok(()) => {}
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card with four entries of table and a key of ten bytes.
    struct Card {
        setting: RssSetting,
        knows_transform: bool,
        knows_key: bool,
        table: [u32; 4],
    }

    impl Card {
        fn new(knows_transform: bool, knows_key: bool) -> Self {
            let setting = RssSetting { hash: HASH_TOEPLITZ, transform: 0, key: (0..10).collect() };
            Self { setting, knows_transform, knows_key, table: [3, 2, 1, 0] }
        }

        fn ask(&mut self, request: &mut Rxfh) -> io::Result<()> {
            let words = &mut request.0;
            assert_eq!((words[1], words[5]), (0, 0), "reserved words and the main context");
            let key_words = words.len() - HEADER_WORDS;
            if words[0] == ETHTOOL_SRSSH {
                assert_eq!((words[2], words[3]), (INDIR_NO_CHANGE, 10), "the table stays");
                // The kernel's view of the same bytes.
                let mut wanted = Rxfh(words.clone());
                wanted.0[2] = 0;
                let wanted = wanted.setting();
                let refused = wanted.transform != 0 && !self.knows_transform
                    || wanted.key != self.setting.key && !self.knows_key;
                if refused {
                    return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
                }
                self.setting = wanted;
                return Ok(());
            }
            assert_eq!(words[0], ETHTOOL_GRSSH);
            words[4] = u32::from_ne_bytes([self.setting.hash, self.setting.transform, 0, 0]);
            if (words[2], words[3]) == (4, 10) {
                assert_eq!(key_words, 4 + 3);
                words[HEADER_WORDS..HEADER_WORDS + 4].copy_from_slice(&self.table);
                let filled = Rxfh::set(&self.setting);
                words[HEADER_WORDS + 4..].copy_from_slice(&filled.0[HEADER_WORDS..]);
            } else {
                (words[2], words[3]) = (4, 10);
            }
            Ok(())
        }
    }

    #[test]
    fn a_card_is_made_symmetric_by_the_first_way_it_knows() {
        for (transform, key) in [(true, true), (true, false), (false, true)] {
            let mut card = Card::new(transform, key);
            let before = card.setting.clone();
            let saved = make_symmetric(&mut |request| card.ask(request)).unwrap();
            assert_eq!(saved, Some(before.clone()));
            assert_eq!(card.setting.transform == SYM_XOR, transform);
            assert_eq!(card.setting.key.starts_with(&[0x6d, 0x5a, 0x6d, 0x5a]), !transform);
            assert_eq!(card.setting.judge(), Rss::Symmetric);
            // Once symmetric there is nothing to do, and it can be taken back.
            assert_eq!(make_symmetric(&mut |request| card.ask(request)).unwrap(), None);
            card.ask(&mut Rxfh::set(&before)).unwrap();
            assert_eq!(read(&mut |request| card.ask(request)).unwrap(), before);
            assert_eq!(before.judge(), Rss::Asymmetric);
        }
    }

    #[test]
    fn a_card_that_knows_no_way_says_so_and_stays_as_it_was() {
        let mut card = Card::new(false, false);
        let before = card.setting.clone();
        let refusal = make_symmetric(&mut |request| card.ask(request)).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(card.setting, before);
    }

    #[test]
    fn an_interface_without_rss_is_unknown_and_nothing_is_tried() {
        assert_eq!(rss("lo"), Rss::Unknown);
        assert_eq!(symmetric_rss("lo").unwrap(), None);
        let plain = RssSetting { hash: HASH_XOR, transform: 0, key: Vec::new() };
        assert_eq!(plain.judge(), Rss::Symmetric);
        assert_eq!(RssSetting { hash: HASH_TOEPLITZ, ..plain }.judge(), Rss::Unknown);
    }
}
