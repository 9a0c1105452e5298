//! What an operator may see of a node's keys.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::ClusterKeys;

/// See the fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Common name of the CA that signed the node's certificate.
    pub issuer: String,
    /// The certificate's last day, `YYYY-MM-DD`, UTC.
    pub valid_until: String,
    /// Its last second, since 1970.
    pub ends_s: u64,
    /// CAs whose signature counts.
    pub cas: usize,
}

impl ClusterKeys {
    /// Keys that [`ClusterKeys::load`] has checked have all of it.
    pub fn summary(&self) -> Summary {
        let Ok((_, certificate)) = X509Certificate::from_der(&self.node_cert_der) else {
            return Summary::default();
        };
        let issuer = certificate.issuer().iter_common_name().find_map(|name| name.as_str().ok());
        let end = certificate.validity().not_after;
        Summary {
            issuer: issuer.unwrap_or_default().into(),
            valid_until: end.to_datetime().date().to_string(),
            ends_s: end.timestamp().max(0) as u64,
            cas: self.cas.len(),
        }
    }
}
