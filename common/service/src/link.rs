//! Reads and checks how a connection is secured: encryption, trusted authorities, the client's
//! identity.
//!
//! The URLs of MySQL and Redis carry the same parameters, the collector has settings. Their modules
//! configure the clients.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metrics::gauge;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tracing::warn;
use url::Url;

use crate::metrics::{CONNECTION_PLAINTEXT, CONNECTION_UNVERIFIED, flag};

/// The TLS parameters of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of authorities that are trusted in addition to the public ones.
    pub ca: Option<PathBuf>,
    /// PEM files of the client's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the server's chain and name are verified.
    pub verified: bool,
}

impl Tls {
    /// Creates the parameters and checks that the files are usable. The error names the faulty
    /// file.
    pub fn new(
        ca: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        verified: bool,
    ) -> Result<Self, String> {
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("a client's certificate and its key belong together: set both".into()),
        };
        let tls = Self { ca, identity, verified };
        tls.client_config()?;
        Ok(tls)
    }

    /// Reads the URL parameters `ssl-ca`, `ssl-cert`, `ssl-key` (PEM files) and `ssl-verify` (`on`,
    /// `off`). Without `encrypted` returns `None`, or an error with `remedy` if the URL has such a
    /// parameter.
    pub fn of_url(url: &Url, encrypted: bool, remedy: &str) -> Result<Option<Self>, String> {
        let [mut ca, mut cert, mut key, mut verify] = [const { None }; 4];
        for (name, value) in url.query_pairs() {
            let place = match &*name {
                "ssl-ca" => &mut ca,
                "ssl-cert" => &mut cert,
                "ssl-key" => &mut key,
                "ssl-verify" => &mut verify,
                other if other.starts_with("ssl") && other != "ssl-mode" => {
                    let known = "ssl-mode, ssl-ca, ssl-cert, ssl-key and ssl-verify";
                    return Err(format!("{other} is none of {known}"));
                }
                _ => continue,
            };
            if !encrypted {
                return Err(format!("{name} needs TLS: {remedy}"));
            }
            *place = Some(value.into_owned());
        }
        if !encrypted {
            return Ok(None);
        }
        let verified = match verify.as_deref() {
            None | Some("on") => true,
            Some("off") => false,
            Some(_) => return Err("ssl-verify must be on or off".into()),
        };
        Self::new(ca.map(Into::into), cert.map(Into::into), key.map(Into::into), verified).map(Some)
    }

    /// Builds the client's TLS configuration and reads the files.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = &self.ca {
            for authority in certificates(path)? {
                let added = roots.add(authority);
                added.map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.verified {
            builder.with_webpki_verifier(verifier)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(verifier)))
        };
        let Some((cert, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| format!("{}: {error}", key.display()))?;
        let own = builder.with_client_auth_cert(certificates(cert)?, private);
        own.map_err(|error| format!("{} with {}: {error}", cert.display(), key.display()))
    }
}

/// Accepts every certificate and checks only signatures. Neither the chain nor the name is
/// verified.
#[derive(Debug)]
struct Unverified(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Reads the certificates of a PEM file. A file without a certificate is an error.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_empty() {
        Err(format!("{} holds no certificate", path.display()))
    } else {
        Ok(found)
    }
}

/// A connection and how it is secured.
#[derive(Debug, Clone)]
pub struct ConnectionSecurity {
    /// The server behind the connection, as in metrics: `mysql`, `mysql_maintenance`, `redis`,
    /// `kafka`, `otlp`.
    pub dependency: &'static str,
    /// The configured hosts, without ports.
    pub hosts: Vec<String>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Whether the server's chain and name are verified. Has no meaning without encryption.
    pub verified: bool,
}

impl ConnectionSecurity {
    /// Creates the link of a URL.
    pub fn new(dependency: &'static str, hosts: Vec<String>, tls: Option<&Tls>) -> Self {
        let verified = tls.is_some_and(|tls| tls.verified);
        Self { dependency, hosts, encrypted: tls.is_some(), verified }
    }

    /// Exports how the connection is secured. Warns if others can read the traffic or pose as the
    /// server.
    fn announce(&self) {
        let dependency = self.dependency;
        let beyond = self.hosts.iter().find(|host| !is_loopback(host));
        let plain = !self.encrypted && beyond.is_some();
        let unverified = self.encrypted && !self.verified;
        gauge!(CONNECTION_PLAINTEXT, "dependency" => dependency).set(flag(plain));
        gauge!(CONNECTION_UNVERIFIED, "dependency" => dependency).set(flag(unverified));
        let host = beyond.map_or("", String::as_str);
        if plain {
            warn!(
                dependency,
                host, "connection is unencrypted, the network can read passwords and health data"
            );
        }
        if unverified {
            warn!(dependency, "server certificate is NOT VERIFIED, any server can impersonate it");
        }
    }
}

/// Announces every configured link.
pub fn announce<const N: usize>(links: [Option<ConnectionSecurity>; N]) {
    links.into_iter().flatten().for_each(|link| link.announce());
}

/// Whether a host, as written in settings, is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, encrypted: bool) -> Result<Option<Tls>, String> {
        let url = Url::parse(&format!("mysql://u@h/d?{query}")).unwrap();
        Tls::of_url(&url, encrypted, "write ssl-mode=VERIFY_IDENTITY")
    }

    #[test]
    fn tls_verifies_unless_it_is_told_not_to() {
        assert_eq!(read("", false), Ok(None));
        for (query, verified) in [("", true), ("ssl-verify=on", true), ("ssl-verify=off", false)] {
            assert_eq!(read(query, true).unwrap().unwrap().verified, verified, "{query}");
        }
    }

    #[test]
    fn what_cannot_mean_what_it_says_is_refused_by_name() {
        for (query, encrypted, named) in [
            ("ssl-verify=no", true, "ssl-verify"),
            ("sslca=/x", true, "sslca"),
            ("ssl-cert=/x", true, "belong together"),
            ("ssl-ca=/no/such/file", true, "/no/such/file"),
            ("ssl-ca=/dev/null", true, "holds no certificate"),
            ("ssl-cert=/dev/null&ssl-key=/dev/null", true, "/dev/null"),
            ("ssl-ca=/x", false, "ssl-mode=VERIFY_IDENTITY"),
        ] {
            let problem = read(query, encrypted).unwrap_err();
            assert!(problem.contains(named), "{query}: {problem}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, loopback) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("localhost", true),
            ("[::1]", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("localhost.example.com", false),
            ("db", false),
        ] {
            assert_eq!(is_loopback(host), loopback, "{host}");
        }
    }
}
