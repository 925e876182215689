use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Example {
    #[command(subcommand)]
    command: RecipientsCommand,
}

fn parse(text: &str) -> Result<RecipientsCommand, clap::Error> {
    let url = ["--mysql-url", "mysql://u@h/d"];
    let words = std::iter::once("example").chain(text.split(' ')).chain(url);
    Example::try_parse_from(words).map(|example| example.command)
}

fn problems(text: &str) -> Vec<String> {
    let mut problems = Problems::default();
    parse(text).unwrap().validate(&mut problems);
    problems.list().to_vec()
}

#[test]
fn what_cannot_be_one_person_s_address_is_refused() {
    let add = |rest: &str| problems(&format!("add --customer-id 7 {rest}"));
    assert_eq!(add("--user-id 0 --kind openid --address o1"), [""; 0]);
    assert_eq!(add("--user-id 3 --kind wecom --address zhang.san"), [""; 0]);
    assert_eq!(add("--user-id -1 --kind openid --address o1"), [""; 0]);
    let found = add("--user-id=-2 --kind wecom --address @all");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|problem| problem.starts_with("--address: @all")), "{found:?}");
    for kind in ["message", "fax"] {
        let text = format!("add --customer-id 7 --user-id 3 --kind {kind} --address 1");
        assert!(parse(&text).unwrap_err().to_string().contains("write openid or wecom"));
    }
    // The table may hold the address, written by hand.
    let remove = "remove --customer-id 7 --user-id 3 --kind wecom --address @all";
    assert_eq!(problems(remove), [""; 0]);
}

#[test]
fn nobody_becomes_the_default_by_leaving_the_user_out() {
    let error = parse("add --customer-id 7 --kind openid --address o1").unwrap_err();
    assert!(error.to_string().contains("--user-id"), "{error}");
}

fn listed() -> [AddressRow; 2] {
    let enabled = AddressRow {
        customer_id: 7,
        user_id: 0,
        kind: "openid".into(),
        address: "o1".into(),
        added_at: Some("2025-09-02 12:00:00".into()),
        disabled_at: None,
        disabled_errcode: None,
    };
    let refused = AddressRow {
        user_id: 1001,
        disabled_at: Some("2025-09-03 12:00:00".into()),
        disabled_errcode: Some(43004),
        ..enabled.clone()
    };
    [enabled, refused]
}

#[test]
fn a_table_shows_who_is_refused_and_why() {
    let mut out = Vec::new();
    print(&listed(), &mut out).unwrap();
    let expected = "\
TENANT  USER  KIND    ADDRESS  ADDED                REFUSED              ERRCODE
7       0     openid  o1       2025-09-02 12:00:00  -                    -
7       1001  openid  o1       2025-09-02 12:00:00  2025-09-03 12:00:00  43004
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn json_holds_the_same() {
    let found = serde_json::to_value(listed()).unwrap();
    assert_eq!(found[0]["disabled_at"], serde_json::Value::Null);
    assert_eq!(found[1]["disabled_errcode"], 43004);
}
