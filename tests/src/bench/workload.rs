//! The readings of the benchmarks: the same readings as records of the topic and as rows of the
//! ceilings. Filling the topic belongs to [`super::fill_topic`], the rows to [`super::store`].

use std::fmt;

use clap::ValueEnum;

use crate::accounting::verdict::wall_time;
use crate::fleet::TENANT;
use crate::stack::world::World;

/// Number of devices of the readings.
pub(super) const DEVICES: usize = 1000;

/// Readings of a device that come in a row, as from a watch's cache.
const BURST: usize = 20;

/// One reading in this many has the value that a narrowed column rejects.
const REFUSED_EVERY: usize = 10_000;

/// A valid heart rate beyond a TINYINT.
const REFUSED_HEART_RATE: usize = 200;

/// Number of readings of a device for which its documents stay the same.
const DOCUMENTS_STAY: usize = 10;

/// The contents of the readings and the order in which devices send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// Vitals only, devices taking turns.
    VitalsTurns,
    /// Vitals only, 20 readings of a device in a row.
    VitalsBursts,
    /// With exercise data, mostly the same as in the reading before; devices taking turns.
    WatchTurns,
    /// With exercise data, 20 readings of a device in a row.
    WatchBursts,
}

impl Workload {
    pub(super) const fn watch(self) -> bool {
        matches!(self, Self::WatchTurns | Self::WatchBursts)
    }

    const fn bursts(self) -> bool {
        matches!(self, Self::VitalsBursts | Self::WatchBursts)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VitalsTurns => "vitals, turns",
            Self::VitalsBursts => "vitals, bursts",
            Self::WatchTurns => "watch, turns",
            Self::WatchBursts => "watch, bursts",
        })
    }
}

/// One reading and its position in the topic.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) device: String,
    pub(super) user: i64,
    pub(super) epoch: i64,
    pub(super) time: String,
    pub(super) partition: usize,
    pub(super) offset: i64,
    pub(super) heart_rate: usize,
    pub(super) step: usize,
    pub(super) documents: Option<Documents>,
}

/// A watch's exercise data.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    pub(super) daily: String,
    pub(super) weekly: String,
}

impl Documents {
    fn new(device: usize, state: usize) -> Self {
        let total = 5 + device % 30 + state;
        let days: Vec<String> = (0..7)
            .map(|day| {
                format!(
                    "{{\"timeStamps\":{day},\"totalSteps\":{},\"totalTime\":{total}}}",
                    total * 97
                )
            })
            .collect();
        Self {
            daily: format!(
                "{{\"code\":0,\"data\":[{{\"strengthTimes\":2,\"totalTime\":{total}}}],\
                 \"name\":\"daily\",\"type\":\"history\"}}"
            ),
            weekly: format!(
                "{{\"code\":0,\"data\":[{}],\"name\":\"week\",\"type\":\"history\"}}",
                days.join(",")
            ),
        }
    }
}

/// Readings in the order in which they are sent. Devices are spread evenly over the partitions. By
/// their names, one partition would get a tenth more, a different partition in every run, and the
/// end of a run would belong to that partition alone.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    world: &'a World,
    workload: Workload,
    first: i64,
    next: usize,
    offsets: Vec<i64>,
}

impl<'a> Feed<'a> {
    /// Creates a feed whose first `readings` readings are all in the past.
    pub(super) fn new(world: &'a World, workload: Workload, readings: usize) -> Self {
        let first = jiff::Timestamp::now().as_second() - 3600 - (readings / DEVICES) as i64;
        Self { world, workload, first, next: 0, offsets: vec![0; world.partitions()] }
    }
}

impl Iterator for Feed<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let n = self.next;
        self.next += 1;
        let (device, number) = if self.workload.bursts() {
            (n / BURST % DEVICES, n / (BURST * DEVICES) * BURST + n % BURST)
        } else {
            (n % DEVICES, n / DEVICES)
        };
        let refused = n % REFUSED_EVERY == REFUSED_EVERY / 2;
        let epoch = self.first + number as i64;
        let partition = device % self.offsets.len();
        let offset = self.offsets[partition];
        self.offsets[partition] += 1;
        Some(Sample {
            device: self.world.device(device),
            user: TENANT + 2 + device as i64,
            epoch,
            time: wall_time(epoch),
            partition,
            offset,
            heart_rate: if refused { REFUSED_HEART_RATE } else { 60 + n % 50 },
            step: 1280 + number,
            documents: self
                .workload
                .watch()
                .then(|| Documents::new(device, number / DOCUMENTS_STAY)),
        })
    }
}

impl Sample {
    /// Returns the value of the reading's record.
    pub(super) fn value(&self) -> String {
        let Self { device, user, epoch, time, heart_rate, step, .. } = self;
        let org = TENANT + 1;
        let documents = self.documents.as_ref().map_or_else(String::new, |documents| {
            let Documents { daily, weekly } = documents;
            format!(",\"exercise_daily_data\":{daily},\"exercise_week_data\":{weekly}")
        });
        format!(
            "{{\"device_sn\":\"{device}\",\"timestamp\":\"{time}\",\"epoch_ms\":{epoch}000,\
             \"received_at\":{epoch}500,\"customer_id\":{TENANT},\"org_id\":{org},\
             \"user_id\":{user},\"upload_method\":\"wifi\",\"heart_rate\":{heart_rate},\
             \"blood_oxygen\":97,\"temperature\":36.5,\"pressure_high\":125,\"pressure_low\":86,\
             \"step\":{step},\"distance\":820.0,\"calorie\":41230.0,\"latitude\":22.540368,\
             \"longitude\":114.01509,\"altitude\":0.0{documents}}}"
        )
    }
}

/// Returns how many of the first `readings` readings a narrowed column rejects.
pub(super) const fn refused(readings: usize) -> usize {
    (readings + REFUSED_EVERY / 2 - 1) / REFUSED_EVERY
}

/// A record and its place: device, partition, value.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) device: String,
    pub(super) partition: usize,
    pub(super) value: String,
}

/// Returns a watch's reading at a second.
pub(super) fn record(world: &World, device: usize, epoch: i64, heart_rate: usize) -> Record {
    let (serial, time) = (world.device(device), wall_time(epoch));
    let (org, user) = (TENANT + 1, TENANT + 2 + device as i64);
    let value = format!(
        "{{\"device_sn\":\"{serial}\",\"timestamp\":\"{time}\",\"epoch_ms\":{epoch}000,\
         \"received_at\":{epoch}500,\"customer_id\":{TENANT},\"org_id\":{org},\
         \"user_id\":{user},\"upload_method\":\"wifi\",\"heart_rate\":{heart_rate},\
         \"blood_oxygen\":97,\"temperature\":36.5,\"pressure_high\":125,\"pressure_low\":86,\
         \"stress\":30,\"step\":1280,\"distance\":820.0,\"calorie\":41230.0,\
         \"latitude\":22.540368,\"longitude\":114.01509,\"altitude\":0.0}}"
    );
    Record { device: serial, partition: device % world.partitions(), value }
}
