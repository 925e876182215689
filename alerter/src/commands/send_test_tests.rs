use ljwx_service::config::ConfigError;

use super::*;
use crate::Config;
use crate::notify::wechat::FieldMap;
use crate::test_support::{official_account, wecom_account};

/// Returns the settings, or their problems.
fn parse(arguments: &str) -> Result<SendTestArgs, Vec<String>> {
    let command = "alerter send-test --mysql-url mysql://u@h/d --customer-id 7";
    let words = command.split(' ').chain(arguments.split_whitespace());
    match ljwx_service::config::parse::<Config>(words.map(Into::into).collect()) {
        Ok(Config::SendTest(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(ConfigError::Problems(problems)) => Err(problems.list().to_vec()),
        Err(ConfigError::Clap(error)) => panic!("{error}"),
    }
}

/// Returns what is printed about a test message in these fields.
fn shown_in_fields(what: TestMessage, fields: FieldMap) -> String {
    printed(&wechat::request(&official_account(fields), "o1", "id", &test_notice(what)))
}

fn test_notice(what: TestMessage) -> Notice {
    notice(what, Severity::Major, "2025-09-02T12:00:05".parse().unwrap())
}

fn printed(request: &[u8]) -> String {
    let mut out = Vec::new();
    print_fields(request, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_person_is_named_by_the_user_or_by_the_address_and_not_by_both() {
    let config = parse("--user-id 1001").unwrap();
    assert_eq!((config.severity, config.what), (Severity::Critical, TestMessage::Opened));
    let config = parse("--kind wecom --address nurse --severity HIGH --what digest").unwrap();
    assert_eq!((config.severity, config.what), (Severity::Major, TestMessage::Digest));
    for (arguments, problem) in [
        ("", "either --user-id, or --kind and --address"),
        ("--user-id 5 --kind openid --address o1", "either --user-id"),
        ("--user-id 5 --address o1", "either --user-id"),
        ("--kind openid", "either --user-id"),
        ("--user-id=-1", "--user-id must not be negative"),
        ("--kind wecom --address @all", "--address: @all"),
        ("--user-id 5 --severity loud", "write info"),
        ("--user-id 5 --wechat-app-id wx7", "--wechat-app-secret"),
    ] {
        let found = parse(arguments).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(problem), "{arguments}: {found:?}");
    }
}

#[test]
fn each_field_is_printed_as_it_is_seen_with_its_length() {
    let expected = "\
keyword1   2 characters  测试
keyword2  11 characters  测试 心率过高 151
keyword3   2 characters  高级
keyword4  19 characters  2025-09-02 12:00:05
";
    assert_eq!(shown_in_fields(TestMessage::Opened, FieldMap::default()), expected);
    let notice = test_notice(TestMessage::Digest);
    let request = wechat::request(&wecom_account(5), "nurse", "id", &notice);
    let printed = printed(&request);
    let lines: Vec<&str> = printed.lines().map(str::trim_start).collect();
    let [head, rest @ ..] = &lines[..] else { panic!("{printed}") };
    assert!(head.starts_with("text  ") && head.contains(" bytes  测试 【高级】汇总 2条"), "{head}");
    let expected = [
        "测试",
        "2025-09-02 12:00:05",
        "测试消息，没有告警",
        "【高级】心率过高 151 (＞140)",
        "【已恢复】心率 88",
    ];
    assert_eq!(rest, expected, "{printed}");
}

#[test]
fn every_template_says_that_it_is_a_test() {
    for what in [TestMessage::Opened, TestMessage::Resolved, TestMessage::Digest] {
        for (map, mark) in [
            (r#"{"thing1": "patient", "const2": "=异常"}"#, "测试"),
            (r#"{"character_string1": "device", "time2": "time"}"#, "TEST"),
        ] {
            let shown = shown_in_fields(what, FieldMap::parse(map).unwrap());
            assert!(shown.contains(mark), "{what:?}: {shown}");
        }
    }
}
