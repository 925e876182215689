use super::*;
use crate::commands::report::aggregate::AllDay;
use crate::commands::report::assemble::NeverFired;

fn notifications(
    channel: &str,
    outcome: &str,
    errcode: Option<i64>,
    count: i64,
) -> NotificationGroup {
    NotificationGroup {
        channel: channel.into(),
        outcome: outcome.into(),
        errcode,
        notifications: count,
    }
}

fn report() -> AlertReport {
    let line = RuleSummary {
        rule_id: 12,
        customer_id: 7,
        alert_type: "HEARTRATE_HIGH_ALERT_OF_OLD".into(),
        episodes: 120,
        notified: 100,
        ended: 118,
        open: 3,
        lasted_p50_ms: Some(200_000),
        event_to_delivery_p50_ms: Some(3_100),
        event_to_delivery_p95_ms: Some(86_399_000),
        recorded_to_delivery_p50_ms: Some(850),
        recorded_to_delivery_p95_ms: None,
        sampled: false,
        flaps: Some(2),
        suppressed: [("cooldown", 9), ("silenced", 4), ("no_recipient", 1)]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into(),
        notifications: vec![
            notifications("wechat_official", "sent", Some(0), 98),
            notifications("wechat_official", "failed", Some(43004), 2),
            notifications("wecom", "sent", Some(0), 1),
            notifications("wecom", "attempt_failed", None, 5),
        ],
    };
    AlertReport {
        from: "2026-01-01 00:00:00".into(),
        to: "2026-01-02 00:00:00".into(),
        time_zone: "Asia/Shanghai".into(),
        customer_id: None,
        lines: vec![line],
        never_fired: vec![NeverFired { rule_id: 3, customer_id: 0, alert_type: "stress".into() }],
        all_day: vec![AllDay {
            rule_id: 12,
            customer_id: 7,
            devices: 2,
            device_sn: "A1".into(),
            open_share: 0.93,
            episodes_a_day: 61,
        }],
        notes: vec!["some".into()],
    }
}

#[test]
fn the_report_reads_as_tables_of_at_most_110_columns() {
    let mut out = Vec::new();
    print(&report(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let expected = "\
2026-01-01 00:00:00 to 2026-01-02 00:00:00 (Asia/Shanghai)

rule  tenant  alert                 opened  notified  open  ended  lasted  e.p50   e.p95  r.p50  r.p95
  12       7  HEARTRATE_HIGH_ALER…     120       100     3    118   3m20s     3s  23h59m  850ms      -
lasted: median of those that ended; e: from the event to the first delivery, r: from the recording

rule  tenant  sent  pending  failed  dropped  in_digest  cooldown  flapping  silenced  other  flaps
  12       7    99        0       2        0          0         9         0         4      1      2
cooldown to other: not sent, and why; flaps: devices that began to flap

rule  tenant  channel          outcome         errcode  count
  12       7  wechat_official  failed            43004      2
  12       7  wecom            attempt failed        -      5
  12       7  -                no recipient          -      1

fires all day: rule 12, tenant 7: device A1 open 93 % of the time, 61 episodes on its worst day, 2 such devices
never fired: rule 3 of all tenants (stress)
note: some
";
    assert_eq!(text, expected);
    let tables = text.lines().filter(|line| !line.contains("fires all day"));
    assert!(tables.map(|line| line.chars().count()).max() <= Some(110));
}

#[test]
fn the_document_has_the_same_numbers() {
    let document = serde_json::to_value(report()).unwrap();
    let line = &document["lines"][0];
    assert_eq!((&line["episodes"], &line["suppressed"]["cooldown"]), (&120.into(), &9.into()));
    assert_eq!(line["notifications"][1]["errcode"], 43004);
    assert_eq!(document["all_day"][0]["devices"], 2);
}

#[test]
fn a_time_takes_at_most_six_characters() {
    for (seconds, text) in [
        (0, "0ms"),
        (59, "59s"),
        (60, "1m00s"),
        (3_599, "59m59s"),
        (86_399, "23h59m"),
        (86_400, "1d00h"),
        (8_639_999, "99d23h"),
        (8_640_000, "100d"),
    ] {
        assert_eq!(short(seconds * 1_000), text);
    }
}
