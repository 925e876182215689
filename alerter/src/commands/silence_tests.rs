use ljwx_service::config::ConfigError;

use super::*;
use crate::Config;

const HOUR_MS: i64 = 3_600_000;

/// 2026-01-01 08:00:00 in Shanghai.
const NOW: i64 = 1_767_225_600_000;

fn parse(arguments: &[&str]) -> Result<SilenceAddArgs, Vec<String>> {
    let fixed = ["alerter", "silence", "add", "--mysql-url", "mysql://u@h/d", "--author", "ann"];
    let arguments = [&fixed[..], arguments].concat();
    match ljwx_service::config::parse(arguments.into_iter().map(Into::into).collect()) {
        Ok(Config::Silence(SilenceCommand::Add(config))) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(ConfigError::Problems(problems)) => Err(problems.list().to_vec()),
        Err(ConfigError::Clap(error)) => panic!("{error}"),
    }
}

/// Start and end of a silence added at [`NOW`], in hours from then.
fn hours(arguments: &[&str]) -> Option<(i64, i64)> {
    let config = parse(&[&["--all", "--reason", "r"], arguments].concat()).unwrap();
    let silence = config.silence(NOW, &TimeZone::get("Asia/Shanghai").unwrap()).ok()?;
    Some(((silence.starts_at - NOW) / HOUR_MS, (silence.ends_at - NOW) / HOUR_MS))
}

#[test]
fn a_silence_without_a_matcher_an_end_or_a_reason_is_refused() {
    for (arguments, problem) in [
        (&["--reason", "r", "--for", "2h"][..], "--rule-id"),
        (&["--reason", "r", "--for", "2h", "--all", "--rule-id", "3"], "--all"),
        (&["--reason", "r", "--all"], "--for"),
        (&["--reason", "r", "--all", "--for", "2h", "--until", "2026-01-01 10:00:00"], "--for"),
        (&["--reason", "r", "--all", "--for", "721h"], "--for"),
        (&["--reason", "r", "--all", "--for", "0s"], "--for"),
        (&["--reason", " ", "--all", "--for", "2h"], "--reason"),
        (&["--reason", "r", "--all", "--for", "2h", "--device", "a b"], "--device"),
        (&["--all", "--for", "2h"], "--reason"),
    ] {
        let found = parse(arguments).unwrap_err();
        assert!(found.iter().any(|one| one.contains(problem)), "{arguments:?}: {found:?}");
    }
    let config = parse(&["--reason", "r", "--for", "2h", "--device", "A1", "--rule-id", "3"]);
    let silence = config.unwrap().silence(NOW, &TimeZone::UTC).unwrap();
    assert_eq!((silence.device_sn.as_deref(), silence.rule_id), (Some("A1"), Some(3)));
    assert_eq!(silence.customer_id, None);
}

#[test]
fn a_silence_lies_ahead_and_ends_within_30_days() {
    for (arguments, expected) in [
        (&["--for", "2h"][..], Some((0, 2))),
        (&["--until", "2026-01-01 11:00:00"], Some((0, 3))),
        (&["--until", "2026-01-01T03:00:00Z"], Some((0, 3))),
        (&["--from", "2026-01-01 10:00:00", "--for", "2h"], Some((2, 4))),
        (&["--from", "2025-12-31 10:00:00", "--for", "2h"], Some((0, 2))),
        (&["--from", "2026-01-01 10:00:00", "--until", "2026-01-01 09:00:00"], None),
        (&["--until", "2026-01-01 07:00:00"], None),
        (&["--until", "2026-01-31 08:00:00"], Some((0, 720))),
        (&["--until", "2026-01-31 08:00:01"], None),
        (&["--from", "2026-01-31 07:00:00", "--for", "2h"], None),
    ] {
        assert_eq!(hours(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_list_says_what_is_silenced_until_when_and_by_whom() {
    let silence = NewSilence {
        customer_id: Some(7),
        device_sn: None,
        rule_id: Some(3),
        reason: "ward is moving".into(),
        author: "ann".into(),
        starts_at: 0,
        ends_at: 7_200_000,
    };
    let of_device = NewSilence {
        customer_id: None,
        device_sn: Some("A1".into()),
        rule_id: None,
        ..silence.clone()
    };
    let lasting = SilenceRow { id: 2, silence, ended_at: None, ended_by: None, created_at: 0 };
    let ended = SilenceRow {
        id: 1,
        silence: of_device,
        ended_at: Some(60_000),
        ended_by: Some("bob".into()),
        ..lasting.clone()
    };
    let mut out = Vec::new();
    let records = [lasting, ended];
    let silences = listed(&records, 60_000);
    print(&silences, &TimeZone::get("Asia/Shanghai").unwrap(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let expected = "\
id  state   from                 to                   tenant  device  rule  reason (who)
 2  active  1970-01-01 08:00:00  1970-01-01 10:00:00       7  any        3  ward is moving (ann)
 1  ended   1970-01-01 08:00:00  1970-01-01 08:01:00     any  A1       any  ward is moving (ann, ended by bob)
";
    assert_eq!(text, expected);
    let lines = serde_json::to_value(&silences).unwrap();
    assert_eq!((&lines[0]["state"], &lines[1]["ended_by"]), (&"active".into(), &"bob".into()));
}
