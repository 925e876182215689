//! An authority that belongs to a test, and the PEM files that it signs, in a folder: `ca.pem`,
//! `server.pem` with `server.key`, `client.pem` with `client.key`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// An authority and its folder.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Creates an authority and signs a certificate for a client and one for servers at 127.0.0.1.
    pub fn new(folder: PathBuf) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate()?;
        let own = params.self_signed(&key)?;
        std::fs::create_dir_all(&folder).context("folder of certificates")?;
        write(&folder, "ca.pem", &own.pem())?;
        let authority = Self { folder, issuer: Issuer::new(params, key) };
        authority.sign_server(false)?;
        authority.sign("client", CertificateParams::new(vec!["ingest".to_owned()])?)?;
        Ok(authority)
    }

    /// The folder with the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a file in the folder.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Signs a new certificate of the servers for 127.0.0.1, for their next start: a valid one, or
    /// one that expired long ago.
    pub fn sign_server(&self, expired: bool) -> anyhow::Result<()> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        self.sign("server", params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> anyhow::Result<()> {
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, &self.issuer)?;
        write(&self.folder, &format!("{name}.pem"), &signed.pem())?;
        write(&self.folder, &format!("{name}.key"), &key.serialize_pem())
    }
}

fn write(folder: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(folder.join(file), text).with_context(|| file.to_owned())
}
