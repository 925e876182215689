//! The ceiling of the hashes: writes every field of every device by HSET. The commands are made
//! before the clock starts, sent in one write, and answered at once. There is no comparison and no
//! message on the channel.

use std::fmt::Write;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::workload::Sample;
use crate::fleet::TENANT;

/// Commands that are sent together.
#[derive(Debug)]
pub(super) struct Pipeline {
    text: String,
    commands: usize,
}

impl Pipeline {
    /// Creates one HSET for each of `newest`.
    pub(super) fn new<'a>(newest: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut pipeline = Self { text: String::new(), commands: 0 };
        for sample in newest {
            let fields = fields(sample);
            let text = &mut pipeline.text;
            // Writing to a String cannot fail.
            let _ = write!(text, "*{}\r\n$4\r\nHSET\r\n", fields.len() * 2 + 2);
            let key = format!("health_data:{}", sample.device);
            let parts = fields.iter().flat_map(|(name, value)| [*name, value.as_str()]);
            for part in [key.as_str()].into_iter().chain(parts) {
                let _ = write!(text, "${}\r\n{part}\r\n", part.len());
            }
            pipeline.commands += 1;
        }
        pipeline
    }
}

/// Returns the fields that the worker writes.
fn fields(sample: &Sample) -> Vec<(&'static str, String)> {
    let documents = sample.documents.as_ref();
    let daily = documents.map_or_else(String::new, |documents| documents.daily.clone());
    let weekly = documents.map_or_else(String::new, |documents| documents.weekly.clone());
    let groups: [(&[&'static str], String); 20] = [
        (&["timestamp"], sample.time.clone()),
        (&["deviceSn", "device_sn"], sample.device.clone()),
        (&["heartRate", "heart_rate"], sample.heart_rate.to_string()),
        (&["bloodOxygen", "blood_oxygen"], "97".into()),
        (&["temperature", "body_temperature", "bodyTemperature"], "36.5".into()),
        (&["pressureHigh", "blood_pressure_systolic", "pressure_high"], "125".into()),
        (&["pressureLow", "blood_pressure_diastolic", "pressure_low"], "86".into()),
        (&["step"], sample.step.to_string()),
        (&["distance"], "820".into()),
        (&["calorie"], "41230".into()),
        (&["latitude"], "22.540368".into()),
        (&["longitude"], "114.01509".into()),
        (&["altitude"], "0".into()),
        (&["uploadMethod", "upload_method"], "wifi".into()),
        (&["userId", "user_id"], sample.user.to_string()),
        (&["orgId", "org_id"], (TENANT + 1).to_string()),
        (&["customerId", "customer_id"], TENANT.to_string()),
        (&["exerciseDailyData"], daily),
        (&["exerciseWeekData", "exerciseDailyWeekData"], weekly),
        (&["stress", "sleep", "sleepData", "scientificSleepData", "workoutData"], String::new()),
    ];
    let spread = |(names, value): (&[&'static str], String)| {
        names.iter().map(|name| (*name, value.clone())).collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(spread).collect()
}

/// A connection without a client library.
#[derive(Debug)]
pub(super) struct Raw(TcpStream);

impl Raw {
    /// Connects to the server of a URL and logs in if the URL has a password.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let rest = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
        let (account, address) = rest.rsplit_once('@').unwrap_or(("", rest));
        let stream = TcpStream::connect(address).await.context("REDIS_URL")?;
        stream.set_nodelay(true)?;
        let mut redis = Self(stream);
        if let Some((user, password)) = account.split_once(':') {
            let text = format!("AUTH {user} {password}\r\n");
            redis.send(&Pipeline { text, commands: 1 }).await?;
        }
        Ok(redis)
    }

    /// Sends all commands and reads all answers, one line each.
    pub(super) async fn send(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        self.0.write_all(pipeline.text.as_bytes()).await?;
        let mut left = pipeline.commands;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let read = self.0.read(&mut buffer).await?;
            ensure!(read > 0, "Redis hung up");
            ensure!(!buffer[..read].contains(&b'-'), "Redis refused a command");
            left -= buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        }
        Ok(())
    }
}
