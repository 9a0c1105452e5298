//! How the program is attached, and what it does when nobody listens.

use std::fmt;
use std::str::FromStr;

/// How an operator wants the program attached (`--xdp-mode`, names as in Open vSwitch).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// Native if the driver takes it, else generic.
    #[default]
    BestEffort,
    /// Native, and the sockets must get zero-copy. Attaching is the same as for [`XdpMode::Native`];
    /// whoever binds the sockets checks the rest.
    NativeZerocopy,
    /// In the driver, before the kernel has made a packet of the frame.
    Native,
    /// In the kernel's receive path; works everywhere, slowly.
    Generic,
}

impl XdpMode {
    /// Every mode.
    pub const ALL: [XdpMode; 4] = [Self::BestEffort, Self::NativeZerocopy, Self::Native, Self::Generic];

    /// The mode's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::BestEffort => "best-effort",
            Self::NativeZerocopy => "native-zerocopy",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for XdpMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            format!("`{text}` is no XDP mode: best-effort, native-zerocopy, native or generic")
        })
    }
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the kernel's receive path (skb mode).
    Generic,
    /// In the network card.
    Offloaded,
}

impl AttachedMode {
    /// The mode's name in `samepath status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        }
    }

    /// The flag the kernel wants for it (`XDP_FLAGS_*`).
    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
            Self::Offloaded => libbpf_sys::XDP_FLAGS_HW_MODE,
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What becomes of frames that samepath should have got while it is not there (`--on-crash`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnCrash {
    /// They are dropped; the program stays attached, pinned in bpffs.
    #[default]
    Closed,
    /// The kernel gets them; the program vanishes with the process.
    Open,
}

impl OnCrash {
    /// The XDP action while no socket is registered.
    pub(crate) fn action(self) -> u32 {
        match self {
            Self::Closed => libbpf_sys::XDP_DROP,
            Self::Open => libbpf_sys::XDP_PASS,
        }
    }
}

impl fmt::Display for OnCrash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
        })
    }
}

impl FromStr for OnCrash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            _ => Err(format!("`{text}` is neither `closed` nor `open`")),
        }
    }
}
