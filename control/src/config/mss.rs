//! Segment sizes of TCP over a cluster link that is too narrow for full packets.

/// `--mss-clamp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MssClamp {
    /// To what the cluster link carries, if it does not carry full packets of the data interfaces.
    Auto,
    /// Ends agree on what they like.
    Off,
    /// To so many bytes.
    To(u16),
}

impl MssClamp {
    /// Bytes of IP and TCP header without options, IPv4 and IPv6.
    const HEADERS: [u32; 2] = [40, 60];

    /// Largest segments over IPv4 and IPv6, 0 = any: `data` is the largest MTU of a data interface, `carried` the
    /// largest IP packet that the tunnel carries.
    pub fn of(self, data: u32, carried: u32) -> [u16; 2] {
        match self {
            Self::Off => [0; 2],
            Self::To(bytes) => [bytes; 2],
            Self::Auto if data <= carried => [0; 2],
            Self::Auto => Self::HEADERS.map(|headers| carried.saturating_sub(headers) as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fit_what_the_tunnel_carries() {
        assert_eq!(MssClamp::Auto.of(1500, 1500), [0, 0], "full packets fit");
        assert_eq!(MssClamp::Auto.of(1500, 1410), [1370, 1350]);
        assert_eq!(MssClamp::To(1200).of(1500, 1500), [1200, 1200]);
        assert_eq!(MssClamp::Off.of(1500, 1410), [0, 0]);
    }
}
