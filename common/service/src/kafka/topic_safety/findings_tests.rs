//! Tests of `findings`: one row for each row of the table of topic settings.

use super::findings::{differences, findings};
use super::settings::ALL;
use super::state::{Finding, Level, Requirements, TopicRole, TopicState};

/// The largest record of a gateway with the default bounds.
const RECORD_BYTES: usize = 1024 * 1024 + 64 * 1024;

/// A topic as `worker migrate` creates it on three brokers.
fn safe() -> TopicState {
    let settings = [
        ("max.message.bytes", "2097152"),
        ("cleanup.policy", "delete"),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "false"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    TopicState {
        partitions: 12,
        replicas: 3,
        brokers: 3,
        settings: Some(settings.into_iter().map(owned).collect()),
    }
}

fn with(setting: &str, value: &str) -> TopicState {
    let mut state = safe();
    if let Some(settings) = &mut state.settings {
        settings.insert(setting.to_owned(), value.to_owned());
    }
    state
}

fn needs(role: TopicRole) -> Requirements {
    Requirements {
        role,
        record_bytes: RECORD_BYTES,
        partitions_at_start: Some(12),
        partitions_min: 0,
        development: false,
        require_safe: false,
    }
}

fn judged(state: &TopicState, role: TopicRole) -> Vec<(&'static str, Level)> {
    levels(&findings("t", state, &needs(role)))
}

fn levels(found: &[Finding]) -> Vec<(&'static str, Level)> {
    found.iter().map(|finding| (finding.setting, finding.level)).collect()
}

#[test]
fn each_setting_is_refused_warned_of_or_fine_as_the_table_says() {
    use Level::{Refused, Warned};
    use TopicRole::{DeadLetters, Readings, Rejects};
    let cases: &[(TopicRole, &str, &str, Option<Level>)] = &[
        (Readings, "max.message.bytes", "1114111", Some(Refused)),
        (Readings, "max.message.bytes", "1114112", Some(Warned)),
        (Readings, "max.message.bytes", "2097152", None),
        (Rejects, "max.message.bytes", "1000", Some(Refused)),
        (Readings, "cleanup.policy", "compact", Some(Refused)),
        (Rejects, "cleanup.policy", "compact,delete", Some(Refused)),
        (Readings, "cleanup.policy", "delete", None),
        (Readings, "min.insync.replicas", "4", Some(Refused)),
        (Readings, "min.insync.replicas", "3", Some(Warned)),
        (Readings, "min.insync.replicas", "2", None),
        (Readings, "min.insync.replicas", "1", Some(Warned)),
        (Readings, "unclean.leader.election.enable", "true", Some(Warned)),
        (Readings, "unclean.leader.election.enable", "false", None),
        (Readings, "retention.ms", "3599999", Some(Refused)),
        (Readings, "retention.ms", "3600000", Some(Warned)),
        (Readings, "retention.ms", "86400000", None),
        (Readings, "retention.ms", "-1", None),
        (Rejects, "retention.ms", "1000", Some(Warned)),
        (Rejects, "retention.ms", "604799999", Some(Warned)),
        (Rejects, "retention.ms", "604800000", None),
        (DeadLetters, "retention.ms", "86400000", Some(Warned)),
        (Readings, "retention.bytes", "1073741824", Some(Warned)),
        (Readings, "retention.bytes", "-1", None),
        (Rejects, "retention.bytes", "1073741824", None),
        (Readings, "compression.type", "zstd", Some(Warned)),
        (Readings, "compression.type", "producer", None),
        (Readings, "message.timestamp.type", "LogAppendTime", Some(Warned)),
        (Readings, "message.timestamp.type", "CreateTime", None),
        (Readings, "message.timestamp.after.max.ms", "599999", Some(Warned)),
        (Readings, "message.timestamp.after.max.ms", "600000", None),
        (Readings, "message.timestamp.before.max.ms", "599999", Some(Warned)),
        (Readings, "message.timestamp.before.max.ms", "600000", None),
    ];
    for (role, setting, value, level) in cases {
        let found = findings("t", &with(setting, value), &needs(*role));
        let expected: Vec<_> = level.iter().map(|level| (*setting, *level)).collect();
        assert_eq!(levels(&found), expected, "{role:?} {setting}={value}");
        for finding in found {
            let named = format!("{setting} of topic t is {value}");
            assert!(finding.message.contains(&named), "{}", finding.message);
            assert!(ALL.contains(&finding.setting), "{setting} has no gauge");
        }
    }
    assert!(judged(&safe(), Readings).is_empty());
}

#[test]
fn a_missing_topic_is_refused_and_a_changed_one_is_warned_of() {
    let missing = findings("t", &TopicState::default(), &needs(TopicRole::Readings));
    assert_eq!(levels(&missing), [("existence", Level::Refused)]);
    assert!(missing[0].message.contains("worker migrate"), "{missing:?}");
    for (role, partitions, found) in [
        (TopicRole::Readings, 13, &[("partitions", Level::Warned)][..]),
        (TopicRole::Rejects, 13, &[("partitions", Level::Warned)]),
        (TopicRole::Readings, 12, &[]),
    ] {
        let state = TopicState { partitions, ..safe() };
        assert_eq!(judged(&state, role), found, "{role:?} {partitions}");
    }
}

#[test]
fn dead_letters_need_as_many_partitions_as_readings_and_room_for_each_letter() {
    let letters = Requirements {
        record_bytes: crate::kafka::topics::DEAD_LETTER_BYTES_MAX,
        partitions_min: 13,
        ..needs(TopicRole::DeadLetters)
    };
    let found = findings("t", &safe(), &letters);
    assert_eq!(
        levels(&found),
        [("partitions", Level::Refused), ("max.message.bytes", Level::Refused)]
    );
    assert!(found[0].message.contains("has 12 partitions"), "{found:?}");
    assert!(found[1].message.contains("would be cut"), "{found:?}");
    let more = TopicState { partitions: 13, ..with("max.message.bytes", "2162688") };
    assert!(findings("t", &more, &letters).is_empty(), "migrate has added one");
}

#[test]
fn fewer_than_three_replicas_are_warned_of_but_in_development() {
    for (replicas, brokers, development, warned) in [
        (1, 1, false, true),
        (1, 1, true, false),
        (2, 2, true, false),
        (2, 3, true, true),
        (2, 3, false, true),
        (3, 3, false, false),
    ] {
        let state = TopicState { replicas, brokers, ..with("min.insync.replicas", "1") };
        let needs = Requirements { development, ..needs(TopicRole::Readings) };
        let found = levels(&findings("t", &state, &needs));
        let warned_of = found.contains(&("replication.factor", Level::Warned));
        assert_eq!(warned_of, warned, "{replicas} of {brokers}, {development}: {found:?}");
    }
}

#[test]
fn unsafe_replication_is_refused_where_safety_is_required() {
    let mut state = TopicState { replicas: 2, ..with("unclean.leader.election.enable", "true") };
    let required = Requirements { require_safe: true, ..needs(TopicRole::Readings) };
    let refused = [
        ("replication.factor", Level::Refused),
        ("min.insync.replicas", Level::Refused),
        ("unclean.leader.election.enable", Level::Refused),
    ];
    assert_eq!(levels(&findings("t", &state, &required)), refused);
    state = with("compression.type", "gzip");
    let found = levels(&findings("t", &state, &required));
    assert_eq!(found, [("compression.type", Level::Warned)], "safe, only slow");
}

#[test]
fn what_needs_no_settings_is_judged_without_the_right_to_see_them() {
    let state = TopicState { settings: None, replicas: 1, ..safe() };
    let found = findings("t", &state, &needs(TopicRole::Readings));
    let expected = [("replication.factor", Level::Warned), ("rights", Level::Warned)];
    assert_eq!(levels(&found), expected);
    assert!(found[1].message.contains("DescribeConfigs"), "{found:?}");
    let state = TopicState { settings: None, ..safe() };
    let required = Requirements { require_safe: true, ..needs(TopicRole::Readings) };
    let refused = [("rights", Level::Refused)];
    assert_eq!(levels(&findings("t", &state, &required)), refused, "nothing shows that it is safe");
}

#[test]
fn a_size_limit_is_named_as_one_of_a_partition() {
    let limited = with("retention.bytes", "1073741824");
    let found = findings("t", &limited, &needs(TopicRole::Readings));
    assert!(found[0].message.contains("where a partition has more bytes"), "{found:?}");
}

#[test]
fn an_existing_topic_of_rejects_or_dead_letters_is_compared_with_a_new_one() {
    let rows: [(TopicRole, &str, &str, &[&str]); 4] = [
        (TopicRole::Rejects, "2097152", "4294967296", &[]),
        (TopicRole::Rejects, "1000000", "-1", &["retention.bytes of topic t has no limit"]),
        (TopicRole::DeadLetters, "2162688", "1000", &[]),
        (TopicRole::DeadLetters, "2097152", "-1", &["would be cut", "retention.bytes=4294967296"]),
    ];
    for (role, message_bytes, retention_bytes, expected) in rows {
        let settings = [("max.message.bytes", message_bytes), ("retention.bytes", retention_bytes)];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let found = differences("t", &settings.into_iter().map(owned).collect(), role);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, part)| found.contains(part)), "{found:?}");
    }
}
