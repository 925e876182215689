//! A record of a dead-letter or rejects topic, and the records that its replay sends. Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::dead_letter_headers::{
    ATTEMPTS, CUT_FROM_BYTES, ERROR_CLASS, ERROR_MESSAGE, FIRST_FAILED_AT, SOURCE_OFFSET,
    SOURCE_PARTITION,
};
use ljwx_ledger::group::delivery::{REPLAY_COUNT, REPLAY_OFFSET, REPLAY_PARTITION};
use ljwx_reading::content_encoding::{CONTENT_ENCODING, Encoding};
use ljwx_reading::{Ids, ParseContext, Reading};
use ljwx_reading::{envelope, wire};
use ljwx_service::kafka::MESSAGE_BYTES_MAX;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::args::KeptTopic;

/// A record as its topic has it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    /// `None`: the record is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A record to be sent to the readings topic.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayRecord {
    pub key: Option<Vec<u8>>,
    /// `None`: the record is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl KeptRecord {
    /// Copies a record.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    /// Returns the last value of a header as text: a record that came back has its newer headers
    /// last.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name)?;
        std::str::from_utf8(&found.1).ok()
    }

    /// Returns the class of a dead letter or the code of a reject.
    pub fn class(&self) -> &str {
        self.header(ERROR_CLASS).or_else(|| self.header("code")).unwrap_or("unknown")
    }

    /// Returns the message of a dead letter or of a reject.
    pub fn message(&self) -> &str {
        self.header(ERROR_MESSAGE).or_else(|| self.header("message")).unwrap_or_default()
    }

    /// Returns the device, if it is known.
    pub fn device(&self) -> Option<&str> {
        self.key.as_deref().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// Returns the value, decompressed as far as possible if it is compressed. Empty for a
    /// tombstone.
    pub fn opened(&self) -> Cow<'_, [u8]> {
        let value = self.value.as_deref().unwrap_or_default();
        match self.header(CONTENT_ENCODING).and_then(Encoding::named) {
            Some(encoding) => encoding.open_in_part(value, MESSAGE_BYTES_MAX).into(),
            None => value.into(),
        }
    }

    /// Returns the number of earlier replays.
    pub fn replays(&self) -> u32 {
        self.header(REPLAY_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Returns the records that a replay sends; empty if no reading can be made of this record now
    /// either.
    pub fn replayed(&self, kind: KeptTopic, zone: &TimeZone) -> Vec<ReplayRecord> {
        match kind {
            // The part of the value that was cut off is lost.
            KeptTopic::DeadLetters if self.header(CUT_FROM_BYTES).is_some() => Vec::new(),
            KeptTopic::DeadLetters => vec![self.dead_letter()],
            KeptTopic::Rejects => self.reject(zone),
        }
    }

    /// Returns the original record with its first position in the readings topic: a replayed
    /// reading must not count as newer than readings that came after it.
    fn dead_letter(&self) -> ReplayRecord {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(key, _)| !key.starts_with("dlq.") && key != REPLAY_COUNT)
            .cloned()
            .collect();
        for kept in [FIRST_FAILED_AT, ATTEMPTS] {
            if let Some(value) = self.header(kept) {
                headers.push((kept.to_owned(), value.as_bytes().to_vec()));
            }
        }
        // A record with a count but without a place is a replayed reject: the place of the letter
        // would make it newer than the readings that came after the item.
        if self.header(REPLAY_OFFSET).is_none() && self.header(REPLAY_COUNT).is_none() {
            for (ours, theirs) in
                [(REPLAY_PARTITION, SOURCE_PARTITION), (REPLAY_OFFSET, SOURCE_OFFSET)]
            {
                if let Some(value) = self.header(theirs) {
                    headers.push((ours.to_owned(), value.as_bytes().to_vec()));
                }
            }
        }
        headers.push(self.count());
        ReplayRecord { key: self.key.clone(), value: self.value.clone(), headers }
    }

    /// Returns the partition of the dead-lettered delivery.
    pub fn source_partition(&self) -> Option<i32> {
        self.header(SOURCE_PARTITION)?.parse().ok()
    }

    fn count(&self) -> (String, Vec<u8>) {
        (REPLAY_COUNT.to_owned(), (self.replays() + 1).to_string().into_bytes())
    }

    /// Parses the item again, as of its first receipt.
    fn reject(&self, zone: &TimeZone) -> Vec<ReplayRecord> {
        let number = |name: &str| self.header(name).and_then(|text| text.parse::<i64>().ok());
        let received_at_ms = number("received_at").unwrap_or(self.timestamp_ms);
        let Ok(received_at) = Timestamp::from_millisecond(received_at_ms) else {
            return Vec::new();
        };
        let value = self.opened();
        let Ok(found) = envelope::unwrap(&value) else { return Vec::new() };
        let outer = Ids {
            customer_id: number("customer_id"),
            org_id: number("org_id"),
            user_id: number("user_id"),
        };
        let first = number("index").and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let readings = found.iter().enumerate().filter_map(|(index, item)| {
            let intake = ParseContext {
                zone,
                received_at,
                index: first + index,
                ids: item.ids.or(outer),
                id_warnings: &item.id_warnings,
            };
            Reading::parse(item.raw, &intake).ok()
        });
        readings
            .map(|reading| ReplayRecord {
                key: Some(reading.device_sn().as_str().as_bytes().to_vec()),
                value: Some(wire::encode(&reading)),
                headers: vec![
                    ("schema".to_owned(), wire::SCHEMA.as_bytes().to_vec()),
                    self.count(),
                ],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str, headers: &[(&str, &str)]) -> KeptRecord {
        KeptRecord {
            partition: 1,
            offset: 2,
            timestamp_ms: 1_756_800_600_000,
            key: Some(b"a".to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: headers
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
                .collect(),
        }
    }

    #[test]
    fn a_dead_letter_goes_back_as_it_was_with_its_first_place() {
        let first = record(
            "{}",
            &[
                ("traceparent", "00-x"),
                ("dlq.source.partition", "4"),
                ("dlq.source.offset", "17"),
                ("dlq.error.class", "data"),
                ("dlq.attempts", "1"),
                ("dlq.first_failed_at", "2025-09-02T08:09:00Z"),
                ("dlq.attempts", "2"),
            ],
        );
        let sent = &first.replayed(KeptTopic::DeadLetters, &TimeZone::UTC)[0];
        let texts: Vec<_> = sent
            .headers
            .iter()
            .map(|(key, value)| (key.as_str(), std::str::from_utf8(value).unwrap()))
            .collect();
        assert_eq!(
            texts,
            [
                ("traceparent", "00-x"),
                (FIRST_FAILED_AT, "2025-09-02T08:09:00Z"),
                (ATTEMPTS, "2"),
                (REPLAY_PARTITION, "4"),
                (REPLAY_OFFSET, "17"),
                (REPLAY_COUNT, "1"),
            ]
        );
        // A replayed reject gets no place.
        let mut reject = KeptRecord { headers: first.headers.clone(), ..record("{}", &[]) };
        reject.headers.push((REPLAY_COUNT.into(), b"1".to_vec()));
        let again = &reject.replayed(KeptTopic::DeadLetters, &TimeZone::UTC)[0];
        assert!(again.headers.iter().all(|(key, _)| key != REPLAY_OFFSET), "{again:?}");
        // The record came back: its first position stays, and the new position is the replay's.
        let mut again = KeptRecord { headers: sent.headers.clone(), ..first };
        again.headers.push(("dlq.source.offset".into(), b"99".to_vec()));
        let sent = &again.replayed(KeptTopic::DeadLetters, &TimeZone::UTC)[0];
        assert!(sent.headers.contains(&(REPLAY_OFFSET.into(), b"17".to_vec())));
        assert!(sent.headers.contains(&(REPLAY_COUNT.into(), b"2".to_vec())));
    }

    #[test]
    fn a_tombstone_goes_back_without_a_value() {
        let tombstone = KeptRecord { value: None, ..record("", &[("dlq.source.offset", "4")]) };
        let sent = tombstone.replayed(KeptTopic::DeadLetters, &TimeZone::UTC);
        assert_eq!((sent.len(), &sent[0].value), (1, &None));
        assert!(tombstone.opened().is_empty());
    }

    #[test]
    fn a_letter_that_was_cut_is_not_sent_as_if_it_were_whole() {
        let cut = record("{}", &[("dlq.source.partition", "4"), (CUT_FROM_BYTES, "3000000")]);
        assert!(cut.replayed(KeptTopic::DeadLetters, &TimeZone::UTC).is_empty());
        assert_eq!(cut.source_partition(), Some(4));
    }

    #[test]
    fn a_reject_is_parsed_anew_as_of_its_first_receipt() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let headers = [("received_at", "1756800540000"), ("index", "3"), ("org_id", "7")];
        let sent = record(r#"{"id":"b","xlv":80}"#, &headers).replayed(KeptTopic::Rejects, &zone);
        let reading = wire::decode(sent[0].value.as_deref()).unwrap();
        assert_eq!(reading.epoch_ms(), 1_756_800_543_000);
        assert_eq!(reading.ids().org_id, Some(7));
        assert_eq!(sent[0].key.as_deref(), Some(&b"b"[..]));
        assert!(record("nope", &headers).replayed(KeptTopic::Rejects, &zone).is_empty());
    }

    #[test]
    fn a_compressed_body_that_something_follows_is_opened_as_far_as_it_goes() {
        let mut compressed = zstd::bulk::compress(br#"{"id":"b","xlv":80}"#, 0).unwrap();
        compressed.extend(b"trailing");
        let first = record("", &[("received_at", "1756800540000"), ("content_encoding", "zstd")]);
        let first = KeptRecord { value: Some(compressed), ..first };
        assert_eq!(&*first.opened(), br#"{"id":"b","xlv":80}"#);
        assert_eq!(first.replayed(KeptTopic::Rejects, &TimeZone::UTC).len(), 1);
        let unknown = record("as it is", &[("content_encoding", "br")]);
        assert_eq!(&*unknown.opened(), b"as it is");
    }
}
