//! One service as a real process: checked until it is ready, ended, or killed. Only processes
//! started here are ever signalled.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};

use crate::clients::http;
use crate::stack::wait::eventually;

/// The longest that a service may take until `/readyz` returns 200.
const READY_WITHIN: Duration = Duration::from_secs(45);

/// The longest that a service may take from SIGTERM to its exit, as promised.
const EXITED_WITHIN: Duration = Duration::from_secs(20);

/// A running service. It is killed when dropped.
#[derive(Debug)]
pub struct Service {
    pub(crate) name: String,
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
    pub(crate) admin: SocketAddr,
    pub(crate) listen: Option<SocketAddr>,
}

impl Service {
    /// The service's name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id while the service runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The service's public address, if it has one.
    pub const fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Address of a path on the service's admin port.
    pub fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// Address of a path on the service's public port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen.unwrap_or(self.admin))
    }

    /// The value of a counter or gauge, summed over all its label sets that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> anyhow::Result<f64> {
        let page = http::get(&self.admin("/metrics")).await?;
        Ok(http::metric(&page.text, name, labels))
    }

    /// All output of the service so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until the service is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let url = self.admin("/readyz");
        let what = format!("{} is ready", self.name);
        let mut exited = None;
        let ready = eventually(READY_WITHIN, &what, || {
            exited = exited.or(self.child.try_wait().ok().flatten());
            let (exited, url) = (exited, url.clone());
            async move {
                if exited.is_some() {
                    return Ok(Some(false));
                }
                Ok((http::get(&url).await?.status == 200).then_some(true))
            }
        })
        .await;
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} exited before it was ready:\n{}", self.name, tail(&self.log)),
            Err(error) => bail!("{error:#}\n{}", tail(&self.log)),
        }
    }

    /// Returns the memory in MiB from a line of `/proc/PID/status`: `VmRSS` now, `VmHWM` at most so
    /// far.
    pub fn memory(&self, line: &str) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    }

    /// Sends SIGTERM and waits for the service to drain and exit.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.signal("TERM").await?;
        match tokio::time::timeout(EXITED_WITHIN, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                bail!(
                    "{} still runs {EXITED_WITHIN:?} after SIGTERM:\n{}",
                    self.name,
                    tail(&self.log)
                )
            }
        }
    }

    /// Waits until the service has ended by itself.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(READY_WITHIN, self.child.wait()).await;
        Ok(ended.with_context(|| format!("{} goes on:\n{}", self.name, tail(&self.log)))??)
    }

    /// Kills the service with SIGKILL.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends the named signal.
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid().with_context(|| format!("{} has exited", self.name))?;
        send_signal(pid, signal).await.with_context(|| self.name.clone())
    }
}

/// Sends the named signal to a process that was started here.
pub(crate) async fn send_signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    // Use a shell's own kill: a direct call would be this workspace's only unsafe code.
    let sent = Command::new("sh")
        .args(["-c", "kill -\"$0\" \"$1\"", signal, &pid.to_string()])
        .status()
        .await?;
    ensure!(sent.success(), "SIG{signal} could not be sent to {pid}");
    Ok(())
}

/// Returns the end of a log, for a message.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
    format!("the end of {}:\n    {shown}", log.display())
}
