//! Tests the faults as a caller meets them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::fakes::wechat::tests::*;
use crate::fakes::wechat::*;
use crate::stack::wait::eventually;

/// Longest that a call may take to arrive.
const SOON: Duration = Duration::from_secs(10);

async fn start() -> (FakeWechat, String) {
    let wechat = FakeWechat::start().await.unwrap();
    let token = official(&wechat).await;
    (wechat, token)
}

fn once(effect: Effect) -> Fault {
    Fault::on(Endpoint::Send, effect).times(1)
}

#[tokio::test]
async fn a_send_that_is_cut_before_it_is_handled_delivers_nothing() {
    let (wechat, token) = start().await;
    wechat.inject(once(Effect::Cut(Moment::Before)));
    assert!(try_send(&wechat, &token, &template("1")).await.is_err());
    assert_eq!(wechat.delivered(), 0);
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    assert_eq!((wechat.delivered(), wechat.sends()), (1, 2));
}

#[tokio::test]
async fn a_send_that_is_cut_after_it_is_handled_delivers_and_its_retry_does_not_again() {
    let (wechat, token) = start().await;
    wechat.inject(once(Effect::Cut(Moment::After)));
    assert!(try_send(&wechat, &token, &template("1")).await.is_err());
    assert_eq!(wechat.inbox(NURSE).len(), 1, "its sender cannot know");
    let retry = try_send(&wechat, &token, &template("1")).await.unwrap();
    assert_eq!(retry.json, json!({"errcode": 0, "errmsg": "ok", "msgid": 1}));
    assert_eq!(wechat.inbox(NURSE).len(), 1);
    // WeCom does not deliver it twice either if the request asks for a duplicate check.
    let token = corp(&wechat).await;
    let mut message = markdown("nurse", "a");
    message["enable_duplicate_check"] = 1.into();
    wechat.inject(once(Effect::Cut(Moment::After)).of(CORP));
    let url = format!("{}/cgi-bin/message/send?access_token={token}", wechat.url());
    assert!(crate::clients::http::post(&url, message.to_string()).await.is_err());
    assert_eq!(errcode(&tell(&wechat, &token, &message).await), 0);
    assert_eq!(wechat.inbox("nurse").len(), 1);
    assert!(wechat.received_twice().is_empty());
}

#[tokio::test]
async fn refusals_come_in_their_order_and_then_all_is_well() {
    let (wechat, token) = start().await;
    wechat.refuse_next(&[-1, 45009]);
    // A call with an old token fails for its token and uses up no fault.
    wechat.expire_token();
    assert_eq!(send(&wechat, &token, &template("1")).await, 42001);
    let token = official(&wechat).await;
    for code in [-1, 45009, 0] {
        assert_eq!(send(&wechat, &token, &template("1")).await, code);
    }
}

#[tokio::test]
async fn a_fault_of_one_account_lasts_until_it_is_ended_and_spares_the_others() {
    let (wechat, token) = start().await;
    let other = tests::token(&stable_token(&wechat, asking("wx2")).await);
    let fault = wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(48001)).of("wx1"));
    for _ in 0..3 {
        assert_eq!(send(&wechat, &token, &template("1")).await, 48001);
        assert_eq!(send(&wechat, &other, &template("1")).await, 0);
    }
    fault.end();
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
}

#[tokio::test]
async fn tokens_fail_on_their_own() {
    let (wechat, token) = start().await;
    wechat.inject(Fault::on(Endpoint::Token, Effect::Errcode(-1)));
    assert_eq!(errcode(&stable_token(&wechat, asking("wx1")).await), -1);
    assert_eq!(errcode(&corp_token(&wechat, "corpid=ww1&corpsecret=x").await), -1);
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    wechat.end_faults();
    assert_eq!(official(&wechat).await, token);
}

#[tokio::test]
async fn a_gateway_s_page_and_a_proxy_s_json_are_no_answer_of_the_platform() {
    let (wechat, token) = start().await;
    for status in [500, 502] {
        wechat.inject(once(Effect::Page(status)));
        let page = try_send(&wechat, &token, &template("1")).await.unwrap();
        assert_eq!(page.status, status);
        assert!(page.text.starts_with("<html>"), "{}", page.text);
    }
    wechat.inject(once(Effect::NoErrcode));
    let answer = try_send(&wechat, &token, &template("1")).await.unwrap();
    assert_eq!((answer.status, answer.json), (200, json!({"status": "fine"})));
    assert_eq!(wechat.delivered(), 0);
}

#[tokio::test]
async fn a_call_that_hangs_goes_on_when_its_fault_ends() {
    for (moment, meanwhile) in [(Moment::Before, 0), (Moment::After, 1)] {
        let (wechat, token) = start().await;
        let wechat = Arc::new(wechat);
        wechat.inject(once(Effect::Hang(moment)));
        let sending = tokio::spawn({
            let wechat = Arc::clone(&wechat);
            async move { send(&wechat, &token, &template("1")).await }
        });
        eventually(SOON, "the call has come", || async {
            Ok((wechat.sends() == 1 && wechat.delivered() == meanwhile).then_some(()))
        })
        .await
        .unwrap();
        assert!(!sending.is_finished());
        wechat.end_faults();
        assert_eq!(sending.await.unwrap(), 0);
        assert_eq!(wechat.delivered(), 1);
    }
}

#[tokio::test]
async fn a_call_that_hangs_and_is_given_up_is_not_handled_later() {
    let (wechat, token) = start().await;
    let wechat = Arc::new(wechat);
    let fault = wechat.inject(Fault::on(Endpoint::Send, Effect::Hang(Moment::Before)));
    let sending = tokio::spawn({
        let (wechat, token) = (Arc::clone(&wechat), token.clone());
        async move { try_send(&wechat, &token, &template("1")).await }
    });
    eventually(SOON, "the call has come", || async { Ok((wechat.sends() == 1).then_some(())) })
        .await
        .unwrap();
    wechat.down();
    let error = sending.await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<reqwest::Error>().is_some_and(|error| !error.is_timeout()));
    wechat.up();
    fault.end();
    assert_eq!(send(&wechat, &token, &template("2")).await, 0);
    let titles: Vec<_> = wechat.messages().iter().map(Message::title).collect();
    assert_eq!(titles, ["alarm 2"]);
}

#[tokio::test]
async fn a_slow_call_is_handled_all_the_same() {
    let (wechat, token) = start().await;
    wechat.inject(once(Effect::Delay(Duration::from_millis(1))));
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    assert_eq!(wechat.delivered(), 1);
}

#[tokio::test]
async fn who_was_away_is_back_under_the_same_address_and_has_forgotten_nothing() {
    let (wechat, token) = start().await;
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    wechat.down();
    assert!(try_send(&wechat, &token, &template("1")).await.is_err());
    assert_eq!(wechat.sends(), 1);
    wechat.up();
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    assert_eq!(wechat.delivered(), 1);
}
