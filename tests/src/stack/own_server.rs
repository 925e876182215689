//! A database server that belongs to a test, which can fill and free the server's space.
//! `deploy/stack` starts it beside the servers that all tests share, and it ends with the test.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{Connection, Executor, MySqlConnection};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::stack::environment::stack_command;
use crate::stack::launch::program_folder;
use crate::stack::process::{send_signal, tail};

/// The longest that the server may take to answer. Its data folder is created first.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The longest that the server may take to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Size of the server's filesystem: enough for the larger of the servers, with space to spare.
const FILESYSTEM_BYTES: u64 = 512 * 1024 * 1024;

/// Size of MariaDB's redo log, which is one file: the smallest size that MariaDB accepts.
const REDO_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// The limit that keeps the server's files from growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A small filesystem of its own. Not every machine lets its users mount one.
    Filesystem,
    /// The largest size of a file. Every user may limit their own processes this way. The system
    /// then reports a file that is too large, not a full disk; the server treats both alike.
    FileSize,
}

impl Room {
    /// Whether this machine allows this limit.
    pub async fn is_allowed(self) -> anyhow::Result<bool> {
        if self == Self::FileSize {
            return Ok(true);
        }
        let folder = std::env::temp_dir();
        let tried = mounted(&folder).arg("true").stderr(Stdio::null()).status().await;
        Ok(tried.context("unshare (of util-linux) could not be run")?.success())
    }
}

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub struct OwnServer {
    room: Room,
    stack: Child,
    folder: PathBuf,
    url: String,
    pid: String,
}

impl OwnServer {
    /// Starts a server of the stack's kind.
    pub async fn start(room: Room) -> anyhow::Result<Self> {
        let programs = program_folder()?;
        let name = format!("own-{}", Uuid::new_v4().simple());
        let folder = programs.parent().unwrap_or(&programs).join("logs").join(name);
        std::fs::create_dir_all(disk(&folder)).context("folder of a server")?;
        let log = File::create(folder.join("log")).context("log of a server")?;
        let stack = serve(room, &folder).stderr(log).spawn();
        let mut stack = stack.context("env or unshare could not be run")?;
        let said = BufReader::new(stack.stdout.take().context("its output")?);
        let line = tokio::time::timeout(READY_WITHIN, async { said.lines().next_line().await });
        let line = line.await.ok().transpose()?.flatten();
        let line = line
            .with_context(|| format!("the server did not start; {}", tail(&folder.join("log"))))?;
        let (url, pid) = line.split_once(' ').context("URL and process id")?;
        let (url, pid) = (url.to_owned(), pid.to_owned());
        if room == Room::FileSize {
            shrink(&url).await?;
        }
        Ok(Self { room, stack, folder, url, pid })
    }

    /// URL of the server and an existing database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes all free space: from now on the server's files cannot grow.
    pub async fn fill(&self) -> anyhow::Result<()> {
        match self.room {
            Room::Filesystem => {
                let mut ballast = File::create(self.ballast()).context("ballast")?;
                let full = io::copy(&mut io::repeat(0), &mut ballast);
                let error = full.err().context("the disk takes everything")?;
                ensure!(error.kind() == io::ErrorKind::StorageFull, "ballast: {error}");
                Ok(())
            }
            Room::FileSize => {
                // Existing parts of the files stay writable.
                let data = PathBuf::from(format!("/proc/{}/cwd", self.pid));
                self.limit(&largest(&data)?.to_string()).await
            }
        }
    }

    /// Frees the space.
    pub async fn free(&self) -> anyhow::Result<()> {
        match self.room {
            Room::Filesystem => std::fs::remove_file(self.ballast()).context("ballast"),
            Room::FileSize => self.limit("unlimited").await,
        }
    }

    /// Stops the server and removes its files.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        send_signal(self.stack.id().context("the server is gone")?, "TERM").await?;
        tokio::time::timeout(STOPPED_WITHIN, self.stack.wait())
            .await
            .with_context(|| format!("still there: {}", tail(&self.folder.join("log"))))??;
        std::fs::remove_dir_all(&self.folder).context("folder of a server")
    }

    /// A file in the server's own filesystem, which only the server's processes see.
    fn ballast(&self) -> PathBuf {
        let inside = format!("/proc/{}/root{}", self.pid, disk(&self.folder).display());
        Path::new(&inside).join("ballast")
    }

    async fn limit(&self, bytes: &str) -> anyhow::Result<()> {
        let limited = Command::new("prlimit")
            .args(["--pid", &self.pid, &format!("--fsize={bytes}:")])
            .status()
            .await
            .context("prlimit (of util-linux) could not be run")?;
        ensure!(limited.success(), "the size of the server's files could not be limited");
        Ok(())
    }
}

/// Starts the stack with only a database. It prints the database's URL and process id, and runs
/// until it is ended.
fn serve(room: Room, folder: &Path) -> Command {
    let mut command = match room {
        Room::Filesystem => mounted(&disk(folder)),
        Room::FileSize => {
            // Without this, a write beyond the limit ends the server instead of failing.
            let mut command = Command::new("env");
            command.arg("--ignore-signal=XFSZ");
            command
        }
    };
    let script =
        "echo \"$MYSQL_URL $(cat \"$STACK_DIR/pids/$STACK_DATABASE\")\"; exec sleep infinity";
    command
        .args(["setpriv", "--pdeathsig", "TERM", "--"])
        .arg(stack_command())
        .args(["run", "--", "sh", "-c", script])
        .env("STACK_DIR", folder.join("none"))
        .env("STACK_WITHOUT", "kafka redis jaeger")
        .env("TMPDIR", disk(folder))
        .env_remove("MYSQL_URL")
        // With `CI` set, the stack would insist on Jaeger.
        .env_remove("CI")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Returns the folder of the server's files.
fn disk(folder: &Path) -> PathBuf {
    folder.join("disk")
}

/// Runs the arguments that follow in a mount namespace in which `folder` is a small filesystem.
fn mounted(folder: &Path) -> Command {
    let mount =
        format!("mount -t tmpfs -o size={FILESYSTEM_BYTES},mode=700 none \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]).arg(folder);
    command
}

/// The size of the largest file below a folder.
fn largest(folder: &Path) -> anyhow::Result<u64> {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let about = entry.metadata()?;
        let size = if about.is_dir() { largest(&entry.path())? } else { about.len() };
        found = found.max(size);
    }
    Ok(found)
}

/// Keeps the server's own files smaller than a table of a test can become.
async fn shrink(url: &str) -> anyhow::Result<()> {
    let mut connection = MySqlConnection::connect(url).await?;
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut connection).await?;
    connection.execute("SET GLOBAL innodb_autoextend_increment = 1").await?;
    if version.contains("MariaDB") {
        let set = format!("SET GLOBAL innodb_log_file_size = {REDO_LOG_BYTES}");
        connection.execute(sqlx::AssertSqlSafe(set)).await.context("innodb_log_file_size")?;
    }
    Ok(connection.close().await?)
}
