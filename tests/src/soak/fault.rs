//! The faults of a soak run, and how long each lasts. [`mod@super::strike`] carries them out.

use std::ops::RangeInclusive;

use clap::ValueEnum;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// SIGKILL of the gateway; another starts at once.
    KillGateway,
    /// SIGKILL of a worker; another starts at once.
    KillWorker,
    /// SIGKILL of an alerter; another starts at once.
    KillAlerter,
    /// SIGSTOP of the gateway, then SIGCONT.
    FreezeGateway,
    /// SIGSTOP of a worker, then SIGCONT.
    FreezeWorker,
    /// SIGSTOP of an alerter, then SIGCONT.
    FreezeAlerter,
    /// SIGKILL of the database, then a start with its data.
    KillDatabase,
    /// SIGKILL of Redis, then a start with its data.
    KillRedis,
    /// SIGKILL of the broker, then a start with its data.
    KillKafka,
    /// SIGSTOP of the database, then SIGCONT.
    FreezeDatabase,
    /// SIGSTOP of Redis, then SIGCONT.
    FreezeRedis,
    /// SIGSTOP of the broker, then SIGCONT.
    FreezeKafka,
    /// The broker stops in an orderly way and starts.
    RestartKafka,
    /// Redis loses all keys.
    FlushRedis,
    /// The database is `read_only`.
    DatabaseReadOnly,
    /// Redis is a replica and takes no writes.
    RedisReadOnly,
    /// Every packet to and from the database is lost.
    DatabaseBlackhole,
    /// Every packet to and from Redis is lost.
    RedisBlackhole,
    /// All services end one after the other, each replaced before the next.
    RollingRestart,
    /// One worker, then four, then one.
    ScaleWorkers,
    /// WeChat takes messages and does not answer.
    WechatHangs,
    /// WeChat takes no connections.
    WechatDown,
}

impl Fault {
    /// The fault's name, as `--only` takes it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns the seconds that the fault may last; 0 if it takes the time that it takes.
    pub(super) const fn seconds(self) -> RangeInclusive<u64> {
        match self {
            Self::KillGateway
            | Self::KillWorker
            | Self::KillAlerter
            | Self::RestartKafka
            | Self::FlushRedis
            | Self::RollingRestart => 0..=0,
            Self::FreezeGateway | Self::FreezeWorker | Self::FreezeAlerter => 15..=40,
            Self::KillDatabase
            | Self::KillRedis
            | Self::KillKafka
            | Self::FreezeDatabase
            | Self::FreezeRedis
            | Self::FreezeKafka
            | Self::DatabaseReadOnly
            | Self::RedisReadOnly
            | Self::DatabaseBlackhole
            | Self::RedisBlackhole
            | Self::ScaleWorkers
            | Self::WechatHangs
            | Self::WechatDown => 20..=60,
        }
    }
}
