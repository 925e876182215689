use serde_json::Value;

use super::*;
use crate::engine::episode::EpisodeKey;
use crate::notify::outbox::DIGEST;
use crate::notify::wechat::FieldMap;
use crate::test_support::{self, notice, official_account, wecom_account};

fn notification(resends: i32) -> Notification {
    Notification { resends, ..test_support::notification() }
}

/// Returns the rebuilt request of a notification that is old, or may have arrived, as JSON, and the
/// number of resends after it.
fn rendered(notification: &Notification, is_old: bool, may_have_arrived: bool) -> (Value, i32) {
    let notification = &Notification {
        age_ms: if is_old { 30 * 60_000 } else { 0 },
        uncertain_ms: may_have_arrived.then_some(0),
        ..notification.clone()
    };
    let letter = SendJob {
        notification,
        address: Address::parse(&notification.recipient).unwrap(),
        notice: notification.notice(),
    };
    let account = official_account(FieldMap::default());
    let rendered = render(&letter, &account).unwrap();
    (serde_json::from_slice(&rendered.payload).unwrap(), rendered.resends)
}

#[test]
fn a_repeat_is_another_message_to_the_platform_and_the_same_to_whoever_makes_it_again() {
    let key = EpisodeKey::of_digest(7, "openid:o1", 1);
    let (first, resends) = rendered(&notification(0), false, false);
    assert_eq!((&first["client_msg_id"], resends), (&key.client_msg_id(2, "openid:o1").into(), 0));
    let (repeat, resends) = rendered(&notification(0), false, true);
    assert_eq!(resends, 1);
    assert_ne!(repeat["client_msg_id"], first["client_msg_id"]);
    assert_eq!(rendered(&notification(0), false, true).0, repeat);
    assert_ne!(rendered(&notification(1), false, true).0, repeat);
}

#[test]
fn marks_are_shown_and_stay() {
    let (late, _) = rendered(&notification(0), true, false);
    assert_eq!(late["data"]["keyword2"]["value"], "延迟 心率过高 133");
    let marked = Notice { repeat: true, ..notice() };
    let again = Notification { notice: serde_json::to_string(&marked).unwrap(), ..notification(1) };
    let (late, resends) = rendered(&again, true, false);
    assert_eq!(late["data"]["keyword2"]["value"], "延迟 重复? 心率过高 133");
    assert_eq!(resends, 1, "it is the same repeat, only late");
}

#[test]
fn a_rebuilt_request_shows_every_field_in_full_again() {
    let plain = Notice { plain_fields: ["keyword2".to_owned()].into(), ..notice() };
    let again = Notification { notice: serde_json::to_string(&plain).unwrap(), ..notification(0) };
    let (full, _) = rendered(&again, false, false);
    assert_eq!(full["data"]["keyword2"]["value"], "心率过高 133");
}

#[test]
fn bytes_of_a_former_account_are_built_again_unless_they_may_have_arrived() {
    let recipient = "wecom:nurse".to_owned();
    let mut notification = Notification { recipient, ..notification(0) };
    let request = |notification: &Notification, agent_id| {
        let job = SendJob {
            notification,
            address: Address::parse(&notification.recipient).unwrap(),
            notice: notification.notice(),
        };
        renewed(&job, &wecom_account(agent_id)).map(|today| today.payload)
    };
    let bytes = request(&notification, 1).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("\"agentid\":1,"));
    notification.payload = bytes;
    assert_eq!(request(&notification, 1), None, "they are those of today");
    let today = request(&notification, 2).unwrap();
    assert!(String::from_utf8_lossy(&today).contains("\"agentid\":2,"));
    notification.uncertain_ms = Some(0);
    assert_eq!(request(&notification, 2), None);
}

#[test]
fn a_notice_that_cannot_be_read_is_none() {
    let broken = Notification { notice: "{}".into(), transition: DIGEST.into(), ..notification(0) };
    assert_eq!(broken.notice(), None);
    assert!(broken.is_digest() && !broken.is_end());
}

#[test]
fn what_may_have_arrived_at_another_address_is_marked_as_a_repeat() {
    let (first, resends) = rendered(&notification(1), false, false);
    assert_eq!(first["data"]["keyword2"]["value"], "重复? 心率过高 133");
    assert_eq!(resends, 1);
}
