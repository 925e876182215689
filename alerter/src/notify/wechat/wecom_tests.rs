use serde_json::{Value, json};
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::notify::wechat::account::{Account, AccountKind};
use crate::notify::wechat::client::Platforms;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure, Reset};
use crate::notify::wechat::request;
use crate::notify::wechat::test_support::*;
use crate::test_support::wecom_account;

const TOKEN: &str = "/cgi-bin/gettoken";

fn account() -> Account {
    wecom_account(1_000_002)
}

fn asks_for_a_token(request: &Request) -> bool {
    request.method.as_str() == "GET" && request.url.query() == Some("corpid=ww7&corpsecret=hush")
}

async fn platform(tokens: &[&str]) -> (MockServer, Platforms) {
    let server = hand_out(tokens, TOKEN, asks_for_a_token).await;
    let wecom = platforms(&server.uri());
    (server, wecom)
}

fn content_of(bytes: &[u8]) -> String {
    let request: Value = serde_json::from_slice(bytes).unwrap();
    request["text"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_request_holds_what_the_member_reads() {
    let notice = Notice {
        user: "王小明".into(),
        ward: Some("三病区".into()),
        text: "心率 133 太高".into(),
        ..notice()
    };
    let bytes = request(&account(), "nurse", "id", &notice);
    let expected = json!({
        "touser": "nurse", "msgtype": "text", "agentid": 1_000_002,
        "text": {"content":
            "【严重】心率过高 133 (>120)\n王小明 · 三病区\n2025-09-02 12:00:00\n心率 133 太高"},
        "enable_duplicate_check": 1, "duplicate_check_interval": 1800,
    });
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    assert_eq!(
        bytes,
        request(&account(), "nurse", "id", &notice),
        "the bytes are the message's name"
    );
}

#[test]
fn in_markdown_the_headline_stands_out_and_no_name_has_an_effect() {
    let kind = AccountKind::Wecom { agent_id: 1_000_002, is_markdown: true };
    let markdown = Account { kind, ..account() };
    let notice = Notice {
        user: "**王** [x](http://x) <b>&".into(),
        since: Some("2025-09-02T11:50:00".parse().unwrap()),
        text: "# 心率 133\n> 太高".into(),
        ..notice()
    };
    let expected = json!({
        "touser": "nurse", "msgtype": "markdown", "agentid": 1_000_002,
        "markdown": {"content":
            "**【严重】心率过高 133 (>120)**\n＊＊王＊＊ ［x］(http：//x) ＜b＞＆\n\
             2025-09-02 12:00:00 自 11:50 起\n＃ 心率 133 ＞ 太高"},
        "enable_duplicate_check": 1, "duplicate_check_interval": 1800,
    });
    let bytes = request(&markdown, "nurse", "id", &notice);
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    for is_markdown in [false, true] {
        let long =
            Notice { user: "*".repeat(10_000), text: "心".repeat(10_000), ..notice.clone() };
        assert!(content(&long, is_markdown).len() <= CONTENT_BYTES_MAX, "{is_markdown}");
    }
}

#[test]
fn a_digest_has_a_line_for_each_alert() {
    let text = "共 2 条：严重 2\n【严重】心率过高 133 (>120) 甲\n【严重】心率过高 140 (>120) 乙";
    let digest = Notice {
        digest_of: Some(2),
        text: text.into(),
        user: "甲等2人".into(),
        bound: None,
        ..notice()
    };
    assert_eq!(
        content_of(&request(&account(), "u", "id", &digest)),
        "【严重】汇总 2条\n甲等2人\n2025-09-02 12:00:00\n共 2 条：严重 2\n\
         【严重】心率过高 133 (＞120) 甲\n【严重】心率过高 140 (＞120) 乙"
    );
}

#[test]
fn other_alerts_follow_the_text_in_lines_of_their_own_however_long_the_text_is() {
    let leading = |text: String| Notice {
        text,
        beside: vec!["【中级】血氧过低 85 (<90)".into(), "【低级】体温过高 38.5 (>38)".into()],
        ..notice()
    };
    let lines = "\n【中级】血氧过低 85 (＜90)\n【低级】体温过高 38.5 (＞38)";
    let head = "【严重】心率过高 133 (>120)\nA1\n2025-09-02 12:00:00\n";
    let short = content(&leading("心率 133".into()), false);
    assert_eq!(short, format!("{head}心率 133{lines}"));
    for is_markdown in [false, true] {
        let long = content(&leading("心".repeat(10_000)), is_markdown);
        assert!(long.len() <= CONTENT_BYTES_MAX && long.ends_with(&format!("…{lines}")), "{long}");
    }
}

#[test]
fn no_name_and_no_text_becomes_a_link_or_a_line_or_makes_a_message_too_long() {
    let own =
        content_of(&request(&account(), "u", "id", &Notice { text: String::new(), ..notice() }));
    let marks = |content: &str| ["<", "&", "://", "\n"].map(|mark| content.matches(mark).count());
    for evil in
        ["<a href=\"http://x.cn\">查看</a>", "\n【严重】心率过高 133\n", "&lt;a&gt;", "心", "\"\\"]
    {
        let evil = evil.repeat(10_000 / evil.len());
        let notice =
            Notice { user: evil.clone(), text: evil.clone(), ward: Some(evil), ..notice() };
        let content = content_of(&request(&account(), "u", "id", &notice));
        assert!(content.len() <= 2_048, "{}", content.len());
        assert_eq!(marks(&content), marks(&own), "{content}");
        assert!(content.ends_with('…'));
    }
}

#[tokio::test]
async fn an_old_token_is_replaced_once_and_the_message_goes_out() {
    let (server, wecom) = platform(&["OLD", "NEW"]).await;
    answer(&server, PATH, "OLD", errcode(42001)).await;
    answer(&server, PATH, "NEW", errcode(0)).await;
    for _ in 0..3 {
        wecom.send(&account(), b"{}").await.unwrap();
    }
    assert_eq!((asked(&server, TOKEN).await, asked(&server, PATH).await), (2, 4));
}

#[tokio::test]
async fn each_application_has_a_token_of_its_own() {
    let server = hand_out(&["T1"], TOKEN, |_| true).await;
    answer(&server, PATH, "T1", errcode(0)).await;
    let wecom = platforms(&server.uri());
    for agent_id in [1, 2, 1] {
        wecom.send(&wecom_account(agent_id), b"{}").await.unwrap();
    }
    assert_eq!(asked(&server, TOKEN).await, 2);
}

#[tokio::test]
async fn every_class_of_code_comes_back_as_its_remedy() {
    for (code, remedy) in [
        (-1, ErrcodeRemedy::Retry),
        (45009, ErrcodeRemedy::WaitUntil(Reset::AccountMinute)),
        (81013, ErrcodeRemedy::DropRecipient),
        (60020, ErrcodeRemedy::ConfigError),
        (45002, ErrcodeRemedy::Permanent),
        (12345, ErrcodeRemedy::RetryThenPermanent),
    ] {
        let (server, wecom) = platform(&["T1"]).await;
        answer(&server, PATH, "T1", errcode(code)).await;
        let failure = wecom.send(&account(), b"{}").await.unwrap_err();
        assert_eq!((failure.remedy, failure.errcode), (remedy, Some(code)));
        assert!(!failure.uncertain);
    }
}

#[tokio::test]
async fn a_recipient_who_is_named_as_not_reached_is_dropped_although_the_code_is_0() {
    let request = request(&account(), "ZhangSan", "id", &notice());
    let all_empty =
        json!({"errcode": 0, "invaliduser": "", "invalidparty": "", "invalidtag": null});
    for (said, reached) in [
        (json!({"errcode": 0}), true),
        (all_empty, true),
        (json!({"errcode": 0, "invaliduser": "somebody"}), true),
        (json!({"errcode": 0, "invaliduser": "a|zhangsan"}), false),
        (json!({"errcode": 0, "invalidparty": "zhangsan"}), false),
        (json!({"errcode": 0, "invalidtag": "zhangsan"}), false),
        (json!({"errcode": 0, "unlicenseduser": "zhangsan"}), false),
    ] {
        let (server, wecom) = platform(&["T1"]).await;
        let response = ResponseTemplate::new(200).set_body_json(&said);
        answer(&server, PATH, "T1", response).await;
        let result = wecom.send(&account(), &request).await;
        assert_eq!(result.is_ok(), reached, "{said}");
        if let Err(failure) = result {
            let Failure { remedy, errcode, uncertain, .. } = failure;
            assert_eq!(
                (remedy, errcode, uncertain),
                (ErrcodeRemedy::DropRecipient, Some(0), false)
            );
        }
    }
}

#[tokio::test]
async fn a_check_reads_the_application_and_names_a_disabled_one() {
    for (close, faults) in [(0, 0), (1, 1)] {
        let (server, wecom) = platform(&["T1"]).await;
        let said = json!({"errcode": 0, "errmsg": "ok", "agentid": 1_000_002, "close": close});
        Mock::given(method("GET"))
            .and(path(APPLICATION_PATH))
            .and(query_param("access_token", "T1"))
            .and(query_param("agentid", "1000002"))
            .respond_with(ResponseTemplate::new(200).set_body_json(said))
            .mount(&server)
            .await;
        assert_eq!(wecom.check(&account()).await.unwrap().len(), faults, "close {close}");
    }
}

#[tokio::test]
async fn neither_an_error_nor_an_account_s_form_tells_a_secret() {
    let nobody = platforms("http://127.0.0.1:9");
    let unreachable = nobody.send(&account(), b"{}").await.unwrap_err();
    let (_server, wecom) = platform(&["SECRET-TOKEN"]).await;
    let not_found = wecom.send(&account(), b"{}").await.unwrap_err();
    for text in [
        format!("{unreachable} {unreachable:?}"),
        format!("{not_found} {not_found:?}"),
        format!("{:?}", account()),
    ] {
        assert!(!text.contains("hush") && !text.contains("SECRET-TOKEN"), "{text}");
    }
}

#[tokio::test]
async fn a_cut_connection_leaves_the_message_in_doubt() {
    for (cuts, uncertain) in [(0, false), (1, true)] {
        let wecom = platforms(&cut_off_after_a_token(cuts).await);
        let failure = wecom.send(&account(), b"{}").await.unwrap_err();
        assert_eq!(
            (failure.remedy, failure.uncertain),
            (ErrcodeRemedy::Retry, uncertain),
            "{failure}"
        );
    }
}
