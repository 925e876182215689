//! Moves the wall clock of one process while it runs.
//!
//! A library, which is compiled here, takes the place of the C library's `clock_gettime`. It adds an
//! offset that it reads from a mapped file. Times that come from elsewhere stay right: those of
//! waits, and those of librdkafka.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::stack::launch::Launch;

/// The library.
const SOURCE: &str = include_str!("moved_clock.c");

/// The variable that names the file with the offset.
const OFFSET_FILE: &str = "MOVED_CLOCK_FILE";

/// A wall clock that is wrong by an offset. Programs that do not get it are not affected.
#[derive(Debug)]
pub struct MovedClock {
    library: PathBuf,
    offset: PathBuf,
}

impl MovedClock {
    /// Creates a clock that is right at first. Its files are in `folder`, which is created.
    pub async fn create(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).context("folder of a clock")?;
        let [source, library, offset] =
            ["clock.c", "clock.so", "offset"].map(|name| folder.join(name));
        std::fs::write(&source, SOURCE).context("source of a clock")?;
        std::fs::write(&offset, 0_i64.to_ne_bytes()).context("offset of a clock")?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let compiled = compile.output().await.context("cc (of gcc) could not be run")?;
        ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Ok(Self { library, offset })
    }

    /// Gives a program this clock.
    pub fn of(&self, launch: Launch) -> Launch {
        let [library, offset] =
            [&self.library, &self.offset].map(|path| path.display().to_string());
        launch.env("LD_PRELOAD", library).env(OFFSET_FILE, offset)
    }

    /// Sets how far the clock is ahead, in seconds. A negative number puts it back.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // The file is written in place: a program that has mapped it must not find it empty.
        let file = OpenOptions::new().write(true).open(&self.offset)?;
        file.write_all_at(&seconds.to_ne_bytes(), 0).context("offset of a clock")
    }
}
