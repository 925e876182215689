//! Starts a program of this workspace from the target directory, with settings of its own and its
//! output in a log.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use tokio::process::Command;

use crate::stack::process::Service;

/// The longest that a command may take to end by itself.
const FINISHED_WITHIN: Duration = Duration::from_secs(45);

/// Ports that this process has given out. A service binds its port only later, and some ports stay
/// unbound on purpose.
static GIVEN_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A program to be started.
#[derive(Debug)]
pub struct Launch {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
    pub(crate) listens: bool,
    pub(crate) at: Option<SocketAddr>,
    pub(crate) open_files: Option<u32>,
}

impl Launch {
    /// Describes a program whose environment is only that of this process.
    pub fn bare(program: &'static str, arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = program_folder()?;
        let logs = folder.parent().unwrap_or(&folder).join("logs");
        std::fs::create_dir_all(&logs).context("folder for logs")?;
        Ok(Self {
            name: program.to_owned(),
            program: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            log: logs.join(format!("{program}-{}.log", std::process::id())),
            listens: false,
            at: None,
            open_files: None,
        })
    }

    /// Starts the program at this path, such as one of an earlier version.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    /// Adds a command line argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Gives the service the public address of an earlier one.
    #[must_use]
    pub const fn at(mut self, address: SocketAddr) -> Self {
        self.at = Some(address);
        self
    }

    /// Limits the files that the service may open at first. The service may raise the limit itself.
    #[must_use]
    pub const fn open_files(mut self, soft_limit: u32) -> Self {
        self.open_files = Some(soft_limit);
        self
    }

    /// Starts the service and waits until it is ready.
    pub async fn start(self) -> anyhow::Result<Service> {
        let mut service = self.spawn()?;
        service.ready().await?;
        Ok(service)
    }

    /// Starts the service without waiting.
    pub fn spawn(self) -> anyhow::Result<Service> {
        let admin = free_address()?;
        let listen = match self.at {
            Some(address) => Some(address),
            None => self.listens.then(free_address).transpose()?,
        };
        let log = File::create(&self.log).context("log file")?;
        let mut command = self.command()?;
        command.env("ADMIN_LISTEN", self.admin_interface(admin).to_string());
        if let Some(listen) = listen {
            command.env("LISTEN", listen.to_string());
        }
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("setpriv (of util-linux) could not be run")?;
        Ok(Service { name: self.name, child, log: self.log, admin, listen })
    }

    /// Returns the address of the admin port: a free port, on the interface that the environment of
    /// the program names.
    fn admin_interface(&self, free: SocketAddr) -> SocketAddr {
        let set = self.environment.iter().rev().find(|(name, _)| name == "ADMIN_LISTEN");
        let set = set.and_then(|(_, value)| value.parse::<SocketAddr>().ok());
        set.map_or(free, |set| SocketAddr::new(set.ip(), free.port()))
    }

    /// Runs a command to its end and returns its exit code and its output.
    pub async fn finish(self) -> anyhow::Result<Finished> {
        self.finish_within(FINISHED_WITHIN).await
    }

    /// Like [`Self::finish`], for a command that may take `limit`.
    pub async fn finish_within(self, limit: Duration) -> anyhow::Result<Finished> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(limit, command.output())
            .await
            .with_context(|| format!("{} did not come to its end", self.name))??;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        std::fs::write(&self.log, &text).context("log file")?;
        Ok(Finished { code: output.status.code(), text })
    }

    fn command(&self) -> anyhow::Result<Command> {
        // A process group of its own: Ctrl-C then reaches the demo alone, which ends its services
        // in order. The death signal: services must not outlive a killed test.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(soft_limit) = self.open_files {
            command.arg("prlimit").arg(format!("--nofile={soft_limit}:"));
        }
        command.arg(program(&self.program)?);
        command.args(&self.arguments).process_group(0).kill_on_drop(true).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

/// A command that has run to its end.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The output, standard output first.
    pub text: String,
}

/// Returns the folder with the programs of this build.
pub fn program_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("own path")?;
    let folder = own.parent().context("own folder")?;
    // Test programs are one folder deeper than the others.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.into())
}

/// Returns the path of a program of this build. An absolute path stays as it is.
fn program(name: &Path) -> anyhow::Result<PathBuf> {
    let path = program_folder()?.join(name);
    ensure!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    Ok(path)
}

/// Returns a local address on which no process listens, and which this process has not given out
/// before.
///
/// Its port is below the range that the kernel gives to clients: a connection could
/// otherwise take the port before the service does.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    for _ in 0..200 {
        let port = rand::rng().random_range(15_000..32_000);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let is_free = TcpListener::bind(address).is_ok();
        if is_free && GIVEN_PORTS.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(address);
        }
    }
    bail!("no free port between 15000 and 32000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_out_twice() {
        // So many random ports would hardly all be different.
        const ADDRESSES: usize = 1000;
        let given: BTreeSet<_> = (0..ADDRESSES).map(|_| free_address().unwrap()).collect();
        assert_eq!(given.len(), ADDRESSES);
    }
}
