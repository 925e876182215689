use ljwx_service::config::ConfigError;

use super::*;
use crate::Config;

fn parse(arguments: &[&str]) -> Result<OutboxArgs, Vec<String>> {
    let arguments = [&["alerter", "outbox", "--mysql-url", "mysql://u@h/d"], arguments].concat();
    match ljwx_service::config::parse::<Config>(arguments.into_iter().map(Into::into).collect()) {
        Ok(Config::Outbox(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(ConfigError::Problems(problems)) => Err(problems.list().to_vec()),
        Err(ConfigError::Clap(error)) => panic!("{error}"),
    }
}

fn listed() -> OutboxRow {
    OutboxRow {
        id: 41,
        state: "pending".into(),
        customer_id: 7,
        recipient: "openid:o1".into(),
        device_sn: Some("A1".into()),
        transition: "opened".into(),
        attempts: 2,
        age_seconds: 90,
        due_in_seconds: -3,
        uncertain: true,
        digest_id: None,
        last_errcode: Some(-1),
        last_error: Some("system busy".into()),
        is_overtaken: false,
    }
}

#[test]
fn what_changes_the_outbox_says_which_notifications_it_means() {
    assert!(parse(&["list"]).is_ok());
    assert!(parse(&["retry"]).unwrap_err()[0].contains("--state"));
    assert!(parse(&["retry", "--state", "failed"]).is_ok());
    assert!(
        parse(&["retry", "--state", "sent"]).unwrap_err()[0].contains("pending, unrouted, failed")
    );
    assert!(parse(&["drop", "--id", "1,2", "--reason", "ward closed"]).is_ok());
    let problems = parse(&["drop", "--state", "in_digest", "--reason", " "]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn without_a_state_only_those_are_meant_that_can_be_changed() {
    let config = parse(&["drop", "--older-than", "30m", "--reason", "over"]).unwrap();
    let filter = config.filter();
    assert_eq!((filter.states.join(" "), filter.whole), ("pending unrouted".into(), true));
    let config = parse(&["list", "--state", "sent", "--customer-id", "7"]).unwrap();
    let filter = config.filter();
    assert_eq!(filter.states, ["sent"]);
    assert_eq!((filter.customer_id, filter.whole), (Some(7), false));
}

#[test]
fn a_list_is_a_table_or_a_document() {
    let mut table = Vec::new();
    print(&[listed()], &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("id  state"), "{table}");
    assert!(lines[1].starts_with("41  pending, uncertain  7 "), "{table}");
    assert!(lines[1].ends_with("90s  0s      -1       system busy"), "{table}");
    let mut document = Vec::new();
    print_found(true, &[listed()], &mut document, |rows, out| print(rows, out)).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!((&document[0]["id"], &document[0]["recipient"]), (&41.into(), &"openid:o1".into()));
}
