//! Prints for `worker erase` what is held, and what stays where nothing can be erased.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use ljwx_reading::wall_text_of;
use ljwx_service::text::{Align, table_of};

use super::holdings::Holdings;
use super::subject::Subject;
use super::topics::{KeptInTopic, KeptUntil};

/// Prints whose data is meant, and how much of it each place holds.
pub fn found(
    name: &str,
    subject: &Subject,
    holdings: &Holdings,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{name}")?;
    for scope in subject.scopes.iter().filter(|_| subject.user_id.is_some()) {
        let how = match scope.user_id {
            None => "as a whole: no row names another user",
            Some(_) => "only what names the user: rows name other users too",
        };
        writeln!(out, "  {}: {how}", scope.device_sn)?;
    }
    writeln!(out)?;
    counts(holdings, out)
}

/// Prints the counts as a table.
pub fn counts(holdings: &Holdings, out: &mut impl Write) -> io::Result<()> {
    let rows = holdings.0.iter().map(|(place, count)| [(*place).to_owned(), count.to_string()]);
    let rows: Vec<_> = rows.collect();
    table_of([Align::Left, Align::Right], &rows, out)
}

/// Prints what stays in Kafka, and where else data may be.
pub fn stays(kept: &[KeptInTopic], zone: &TimeZone, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nKafka deletes no single record. What was sent stays in")?;
    for KeptInTopic { topic, records, until } in kept {
        let records = match records {
            None => "not counted".to_owned(),
            Some(records) => format!("{records} record(s)"),
        };
        let until = match until {
            _ if records.starts_with("0 ") => String::new(),
            KeptUntil::At(at_ms) => format!(", until {} at the latest", wall_text_of(*at_ms, zone)),
            KeptUntil::Forever => ", for ever: the topic has no retention".to_owned(),
            KeptUntil::Unknown => ", until its retention, which the brokers do not show".to_owned(),
        };
        writeln!(out, "  {topic}: {records}{until}")?;
    }
    writeln!(
        out,
        "Backups of MySQL and Redis, logs and traces keep what they have. The platform's own tables \
         are the platform's."
    )
}

#[cfg(test)]
mod tests {
    use ljwx_reading::DeviceSn;

    use super::*;
    use crate::commands::privacy::subject::Scope;

    #[test]
    fn the_text_says_what_goes_and_what_stays_until_when() {
        let scope =
            |device: &str, user_id| Scope { device_sn: DeviceSn::new(device).unwrap(), user_id };
        let subject =
            Subject { scopes: vec![scope("A1", None), scope("B2", Some(5))], user_id: Some(5) };
        let holdings = Holdings(vec![("t_alert_info", 7), ("t_user_health_data", 1234)]);
        let topic =
            |topic: &str, records, until| KeptInTopic { topic: topic.into(), records, until };
        let kept = [
            topic("r", None, KeptUntil::At(1_756_800_540_000)),
            topic("j", Some(2), KeptUntil::Forever),
            topic("d", Some(0), KeptUntil::Unknown),
            topic("e", Some(1), KeptUntil::Unknown),
        ];
        let mut out = Vec::new();
        found("user 5", &subject, &holdings, &mut out).unwrap();
        stays(&kept, &TimeZone::UTC, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let begins = "user 5\n  A1: as a whole: no row names another user\n  B2: only what names the \
                      user: rows name other users too\n\nt_alert_info           7\n\
                      t_user_health_data  1234\n\nKafka";
        assert!(text.starts_with(begins), "{text}");
        for line in [
            "  r: not counted, until 2025-09-02 08:09:00 at the latest\n",
            "  j: 2 record(s), for ever",
            "  d: 0 record(s)\n",
            "  e: 1 record(s), until its retention, which the brokers do not show\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in: {text}");
        }
    }
}
