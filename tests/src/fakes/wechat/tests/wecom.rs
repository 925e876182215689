use std::collections::HashSet;

use super::*;
use crate::fakes::wechat::tests::{
    CORP, corp, corp_token, errcode, markdown, official, send, tell, template, token,
};
use crate::fakes::wechat::{CORP_SECRET, FakeWechat, Limit, NURSE};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn start() -> FakeWechat {
    FakeWechat::start().await.unwrap()
}

fn members(names: &[&str]) -> Option<HashSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Returns a message that asks for a duplicate check.
fn checked(content: &str) -> Value {
    let mut message = markdown("nurse", content);
    message["enable_duplicate_check"] = 1.into();
    message
}

#[tokio::test]
async fn a_token_is_an_application_s_and_stays_the_same_until_it_expires() {
    let wechat = start().await;
    for (query, code) in [
        ("corpid=ww1&corpsecret=guess", 40001),
        ("corpid=wx1&corpsecret=guess", 40013),
        ("corpsecret=guess", 41002),
        ("corpid=ww1", 41004),
    ] {
        assert_eq!(errcode(&corp_token(&wechat, query).await), code, "{query}");
    }
    let given = corp_token(&wechat, &format!("corpid=ww1&corpsecret={CORP_SECRET}")).await;
    assert_eq!(errcode(&given), 0);
    let first = corp(&wechat).await;
    assert_eq!(first, token(&given));
    assert_eq!(errcode(&tell(&wechat, &first, &markdown("nurse", "a")).await), 0);
    wechat.advance(seconds(7_200));
    assert_eq!(errcode(&tell(&wechat, &first, &markdown("nurse", "b")).await), 42001);
    let second = corp(&wechat).await;
    wechat.revoke_tokens(CORP);
    assert_eq!(errcode(&tell(&wechat, &second, &markdown("nurse", "b")).await), 40014);
    let official = official(&wechat).await;
    assert_eq!(errcode(&tell(&wechat, &official, &markdown("nurse", "b")).await), 40014);
    assert_eq!(errcode(&tell(&wechat, "", &markdown("nurse", "b")).await), 41001);
    assert_eq!(wechat.delivered(), 1);
}

#[tokio::test]
async fn an_application_s_token_sends_for_that_application_only() {
    let wechat = start().await;
    let applications = ["one", "two"].iter().zip(1..);
    let applications = applications.map(|(secret, agent)| Account::wecom(CORP, agent, secret));
    let applications = applications.collect();
    wechat.set(|settings| settings.accounts = Some(applications));
    let second = token(&corp_token(&wechat, "corpid=ww1&corpsecret=two").await);
    let mut message = markdown("nurse", "a");
    assert_eq!(errcode(&tell(&wechat, &second, &message).await), 301_002);
    message["agentid"] = 2.into();
    assert_eq!(errcode(&tell(&wechat, &second, &message).await), 0);
}

#[tokio::test]
async fn an_application_is_described_to_its_own_token_alone() {
    let wechat = start().await;
    wechat.set(|settings| settings.accounts = Some(vec![Account::wecom(CORP, 2, "two")]));
    let token = token(&corp_token(&wechat, "corpid=ww1&corpsecret=two").await);
    for (query, code) in [
        (format!("access_token={token}&agentid=2"), 0),
        (format!("access_token={token}&agentid=3"), 301_002),
        (format!("access_token={token}"), 40056),
        ("agentid=2".to_owned(), 41001),
    ] {
        let url = format!("{}/cgi-bin/agent/get?{query}", wechat.url());
        let answer = crate::clients::http::get(&url).await.unwrap();
        assert_eq!(errcode(&answer), code, "{query}");
    }
    assert_eq!(wechat.sends(), 0);
}

#[tokio::test]
async fn what_wecom_would_not_take_is_refused_by_its_code() {
    let wechat = start().await;
    let token = corp(&wechat).await;
    let with = |name: &str, value: Value| {
        let mut message = markdown("nurse", "a");
        message[name] = value;
        message
    };
    let text = |length| {
        let mut message = with("msgtype", "text".into());
        message["text"] = json!({ "content": "x".repeat(length) });
        message
    };
    for (message, code) in [
        (with("agentid", "1".into()), 40056),
        (with("agentid", Value::Null), 40056),
        (with("msgtype", "news".into()), 40008),
        (with("msgtype", Value::Null), 40008),
        (with("markdown", Value::Null), 44004),
        (markdown("nurse", &"x".repeat(2_049)), 45002),
        (markdown("nurse", &"x".repeat(2_048)), 0),
        // The limit counts bytes, not characters.
        (markdown("nurse", &"严".repeat(683)), 45002),
        (text(2_049), 45002),
        (text(2_048), 0),
        (with("touser", Value::Null), 82001),
        (with("touser", " | ".into()), 82001),
        (json!([]), 40056),
    ] {
        assert_eq!(errcode(&tell(&wechat, &token, &message).await), code, "{message}");
    }
    let url = format!("{}/cgi-bin/message/send?access_token={token}", wechat.url());
    assert_eq!(errcode(&crate::clients::http::post(&url, "{").await.unwrap()), 47001);
    assert_eq!(wechat.delivered(), 2);
}

#[tokio::test]
async fn unknown_members_are_named_while_the_others_are_notified() {
    let wechat = start().await;
    let token = corp(&wechat).await;
    wechat.set(|settings| settings.members = members(&["nurse", "Doctor"]));
    let answer = tell(&wechat, &token, &markdown("nurse|Gone|doctor|nurse|lost", "a")).await;
    assert_eq!(errcode(&answer), 0);
    assert_eq!(answer.json["invaliduser"], "gone|lost");
    let received = |person: &str| wechat.inbox(person).len();
    assert_eq!([received("nurse"), received("Doctor"), received("Gone")], [1, 1, 0]);
    assert_eq!(errcode(&tell(&wechat, &token, &markdown("gone|lost", "a")).await), 81013);
    assert_eq!(errcode(&tell(&wechat, &token, &markdown("@all", "everybody")).await), 0);
    assert_eq!([received("nurse"), received("Doctor")], [2, 2]);
}

#[tokio::test]
async fn the_same_request_is_delivered_once_where_it_asks_for_that() {
    let wechat = start().await;
    let token = corp(&wechat).await;
    let tell = async |message: Value| {
        assert_eq!(errcode(&tell(&wechat, &token, &message).await), 0);
        wechat.delivered()
    };
    assert_eq!(tell(checked("a")).await, 1);
    assert_eq!(tell(checked("a")).await, 1);
    assert_eq!(tell(checked("b")).await, 2);
    wechat.advance(SAME_WITHIN_WECOM);
    assert_eq!(tell(checked("a")).await, 3);
    assert!(wechat.received_twice().is_empty());
    let mut brief = checked("c");
    brief["duplicate_check_interval"] = 60.into();
    assert_eq!(tell(brief.clone()).await, 4);
    wechat.advance(seconds(59));
    assert_eq!(tell(brief.clone()).await, 4);
    wechat.advance(seconds(1));
    assert_eq!(tell(brief).await, 5);
    assert_eq!(tell(markdown("nurse", "d")).await, 6);
    assert_eq!(tell(markdown("nurse", "d")).await, 7, "it did not ask");
    let twice: Vec<_> = wechat.received_twice().iter().map(Message::text).collect();
    assert_eq!(twice, ["c", "d"]);
}

#[tokio::test]
async fn what_a_member_gets_too_much_of_is_dropped_without_an_errcode() {
    let wechat = start().await;
    let token = corp(&wechat).await;
    wechat.set(|settings| settings.member = Some(Limit::a_minute(30)));
    for number in 1..=32 {
        let message = markdown("nurse|doctor", &format!("alarm {number}"));
        assert_eq!(errcode(&tell(&wechat, &token, &message).await), 0);
    }
    assert_eq!((wechat.inbox("nurse").len(), wechat.inbox("doctor").len()), (30, 30));
    assert_eq!(wechat.dropped(), 4);
    wechat.advance(seconds(60));
    assert_eq!(errcode(&tell(&wechat, &token, &markdown("nurse", "later")).await), 0);
    assert_eq!(wechat.inbox("nurse").len(), 31);
}

#[tokio::test]
async fn an_account_s_limits_are_answered_with_one_code() {
    let wechat = start().await;
    let token = corp(&wechat).await;
    wechat.set(|settings| {
        settings.account_minute = Some(Limit::a_minute(1));
        settings.account_day = Some(Limit::a_day(1));
    });
    assert_eq!(errcode(&tell(&wechat, &token, &markdown("nurse", "a")).await), 0);
    assert_eq!(errcode(&tell(&wechat, &token, &markdown("nurse", "b")).await), 45009, "minute");
    wechat.advance(seconds(60));
    assert_eq!(errcode(&tell(&wechat, &token, &markdown("nurse", "b")).await), 45009, "day");
}

#[tokio::test]
async fn a_person_s_messages_of_both_platforms_are_in_the_order_they_came() {
    let wechat = start().await;
    let (official, corp) = (official(&wechat).await, corp(&wechat).await);
    wechat.set(|settings| {
        for address in [NURSE, "nurse"] {
            settings.people.insert(address.to_owned(), "Anna".to_owned());
        }
    });
    assert_eq!(send(&wechat, &official, &template("1")).await, 0);
    assert_eq!(errcode(&tell(&wechat, &corp, &markdown("nurse", "b")).await), 0);
    assert_eq!(send(&wechat, &official, &template("2")).await, 0);
    let inbox = wechat.inbox("Anna");
    let titles: Vec<_> = inbox.iter().map(Message::title).collect();
    assert_eq!(titles, ["alarm 1", "b", "alarm 2"]);
    let kinds = [Kind::Official, Kind::Wecom, Kind::Official];
    assert!(inbox.iter().map(|message| message.kind).eq(kinds));
    assert_eq!((inbox[1].account.as_str(), inbox[1].number), (CORP, 2));
    assert_eq!(wechat.messages_since(1), (inbox[1..].to_vec(), 3));
}
