//! Takes a server of the stack from its users for a while: stops, kills or freezes it, and starts
//! it again. A server that belongs to one test is in [`super::own_server`].

use std::path::PathBuf;

use anyhow::{Context, ensure};

use super::environment::{optional, required, stack_command};

/// A server that can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The only broker.
    Kafka,
    /// The database: MariaDB, or the one that `STACK_DATABASE` names.
    Database,
    /// Redis.
    Redis,
}

impl Server {
    /// The server's name in `deploy/stack`.
    fn name(self) -> String {
        match self {
            Self::Kafka => "kafka".into(),
            Self::Database => optional("STACK_DATABASE").unwrap_or_else(|| "mariadb".into()),
            Self::Redis => "redis".into(),
        }
    }

    /// Stops the server in an orderly way.
    pub async fn stop(self) -> anyhow::Result<Outage> {
        self.away("stop").await
    }

    /// Kills the server with SIGKILL.
    pub async fn kill(self) -> anyhow::Result<Outage> {
        self.away("kill").await
    }

    /// Stops the server and removes all its data, like a machine whose disk is gone.
    pub async fn lose(self) -> anyhow::Result<Outage> {
        let outage = self.stop().await?;
        let folder = PathBuf::from(required("STACK_DIR")?).join(self.name()).join("data");
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(outage)
    }

    /// Stops the server's process without closing a connection, like a machine that hangs.
    pub fn freeze(self) -> anyhow::Result<Frozen> {
        let folder = PathBuf::from(required("STACK_DIR")?);
        let pid = std::fs::read_to_string(folder.join("pids").join(self.name()))?;
        let frozen = Frozen(pid.trim().to_owned());
        frozen.signal("STOP")?;
        Ok(frozen)
    }

    async fn away(self, how: &str) -> anyhow::Result<Outage> {
        // Create the guard first: a command that fails half-way must be undone, too.
        let outage = Outage { server: self, over: false };
        run(how, self).await?;
        Ok(outage)
    }
}

/// A stopped server. It starts again when this ends or is dropped, without data if they were lost.
#[derive(Debug)]
#[must_use = "the server comes back when this is dropped"]
pub struct Outage {
    server: Server,
    over: bool,
}

impl Outage {
    /// Starts the server again, on its old port with the data that it has, and waits until it
    /// answers.
    pub async fn end(mut self) -> anyhow::Result<()> {
        run("start", self.server).await?;
        self.over = true;
        Ok(())
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if !self.over {
            // A failed test must not fail the other tests.
            let started = std::process::Command::new(stack_command())
                .args(["start", self.server.name().as_str()])
                .status();
            if let Err(error) = started {
                eprintln!("{} stays down: {error}", self.server.name());
            }
        }
    }
}

/// A server that does nothing until this is dropped.
#[derive(Debug)]
#[must_use = "the server goes on when this is dropped"]
pub struct Frozen(String);

impl Frozen {
    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        // A blocking call, so that `drop` can resume the server after a failed test, too.
        let sent = std::process::Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", signal, &self.0])
            .status()?;
        ensure!(sent.success(), "SIG{signal} could not be sent to {}", self.0);
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.signal("CONT") {
            eprintln!("a server stays frozen: {error}");
        }
    }
}

async fn run(command: &str, server: Server) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(stack_command())
        .args([command, server.name().as_str()])
        .output()
        .await
        .with_context(|| format!("{} could not be run", stack_command().display()))?;
    ensure!(
        output.status.success(),
        "deploy/stack {command} {} failed: {}",
        server.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
