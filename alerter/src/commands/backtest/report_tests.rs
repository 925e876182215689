use jiff::tz::TimeZone;
use serde_json::json;

use super::*;
use crate::commands::backtest::trial::Selection;
use crate::test_support::{heart_rate, rule};

fn report() -> BacktestReport {
    let sets = [json!({}), json!({"threshold_max": 120})]
        .map(|fields| Arc::new(RuleSet::new([rule(fields)])));
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let mut trial = BacktestRun::new(sets.clone(), vec![0], Selection::default(), &zone);
    for (second, rate) in [(0, 80), (60, 110), (120, 90), (180, 130), (240, 130), (300, 110)] {
        trial.reading(0, &heart_rate(second, rate));
    }
    let times = ["2025-09-02 12:00:00", "2025-09-02 13:00:00"].map(str::to_owned);
    let [a, b] = sets;
    let sets = [("t_alert_rules", a), ("new.yaml", b)];
    BacktestReport::new(times, sets.map(|(name, set)| NamedRules { name: name.into(), set }), trial)
}

#[test]
fn the_tables_say_what_fires_under_each_set_and_which_devices_differ() {
    let mut out = Vec::new();
    print(&report(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let expected = "\
received from 2025-09-02 12:00:00 to 2025-09-02 13:00:00
6 records: 6 evaluated, 0 late, 0 ahead of the clock, 0 undecodable, 0 of others
A: t_alert_rules
B: new.yaml

 rule  type    A episodes  devices  notified  B episodes  devices  notified
    1  metric           2        1         2           1        1         2
total                   2                  2           1                  2

2 differences: 1 only under A, 0 only under B, 1 under both with other times, severities or notifications

          device  rule  set               opened                ended  severity  episodes  notified
ABCDE25100000001     1    A  2025-09-02 12:01:00  2025-09-02 12:02:00     major         1         2
ABCDE25100000001     1    A  2025-09-02 12:03:00                 open     major         1         0
ABCDE25100000001     1    B  2025-09-02 12:03:00  2025-09-02 12:05:00     major         1         2

nothing was written and nobody was notified
";
    assert_eq!(text, expected);
}

#[test]
fn the_document_says_the_same() {
    let document = serde_json::to_value(report()).unwrap();
    assert_eq!(
        document["rules"],
        json!([{
            "id": 1, "alert_type": "metric",
            "a": {"episodes": 2, "devices": 1, "notifications": 2},
            "b": {"episodes": 1, "devices": 1, "notifications": 2},
        }])
    );
    let differences = &document["differences"];
    assert_eq!((&differences["only_a"], &differences["otherwise"]), (&json!(1), &json!(1)));
    assert_eq!(differences["listed"][1]["a"]["ended_at"], json!(null));
    assert_eq!(differences["listed"][1]["b"]["severity"], "major");
    assert_eq!(document["records"]["evaluated"], 6);
}
