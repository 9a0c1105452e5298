//! Keys for the dataplane, derived from the shared secret by HKDF-SHA256 (RFC 5869) with one label each,
//! so that knowing one of them tells nothing about another.

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

use samepath_dataplane::cluster::director::DirectorKey;

use super::ClusterKeys;

/// Salt of the extraction; changes with the derivation's version.
const SALT: &[u8] = b"samepath keys v1";

/// A number derived from the shared secret that is safe to show: peers with different ones hold
/// different secrets. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(pub u64);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl ClusterKeys {
    /// Key of the Director hash.
    pub fn director_key(&self) -> DirectorKey {
        DirectorKey(derived(&self.secret, b"director hash"))
    }

    /// See [`Fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(u64::from_be_bytes(derived(&self.secret, b"fingerprint")))
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derived<const N: usize>(secret: &[u8; 32], label: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    Salt::new(HKDF_SHA256, SALT)
        .extract(secret)
        .expand(&[label], Length(N))
        .and_then(|okm| okm.fill(&mut key))
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_secrets_separate_keys() {
        let a: [u8; 16] = derived(&[1; 32], b"director hash");
        assert_eq!(a, derived(&[1; 32], b"director hash"));
        assert_ne!(a, derived(&[1; 32], b"fingerprint"));
        assert_ne!(a, derived(&[2; 32], b"director hash"));
    }

    /// Computed apart from this code (Python's hmac): a change would split a cluster during an upgrade.
    #[test]
    fn derivation_has_not_changed() {
        let key: [u8; 16] = derived(&[7; 32], b"director hash");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ee34cec0c12342bd2c41256448fc26ae");
    }
}
