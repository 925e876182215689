//! Writes rows of the platform's `t_device_message`, which the watch polls and displays.
//!
//! A row is written inside the caller's transaction. Only columns that the table has are filled,
//! because the platform's variants differ. The callers decide who is notified, and when.

use ljwx_ledger::mysql::errors::{self, Remedy};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{MySql, QueryBuilder};

use crate::engine::episode::TransitionKind;
use crate::mysql::columns::{ColumnCache, Columns};
use crate::notify::notice::{Notice, cut};

/// The name of the table.
const TABLE: &str = "t_device_message";

/// Longest message, in bytes. A watch has a small screen.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// A message for one person.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceMessage<'a> {
    /// The device of the alert.
    pub device_sn: &'a str,
    /// The text that the person reads.
    pub text: String,
    /// The person, by the platform's number.
    pub user_id: i64,
    /// Whether the person is the wearer. Otherwise the person is a manager.
    pub is_wearer: bool,
    /// The person's organisation.
    pub org_id: Option<i64>,
    /// The tenant.
    pub customer_id: i64,
}

/// The table's columns in this database. They are read when they are first needed.
pub fn columns(pool: MySqlPool) -> ColumnCache {
    ColumnCache::new(pool, TABLE)
}

/// Returns the user number and the organisation of the wearer, from the alert with this key.
pub async fn wearer(pool: &MySqlPool, dedup_key: &str) -> sqlx::Result<(Option<i64>, Option<i64>)> {
    let query = sqlx::query_as(
        "SELECT CAST(user_id AS SIGNED), CAST(org_id AS SIGNED) \
         FROM t_alert_info WHERE dedup_key = ?",
    );
    Ok(query.bind(dedup_key).fetch_optional(pool).await?.unwrap_or_default())
}

/// Adds a message. If MySQL rejects the values, adds the message in its plain form
/// ([`Columns::fit`]).
pub async fn insert(
    connection: &mut MySqlConnection,
    columns: &Columns,
    message: &DeviceMessage<'_>,
) -> sqlx::Result<()> {
    let added = statement(columns, message, false).build().execute(&mut *connection).await;
    let added = match added {
        Err(error) if errors::remedy(&error) == Remedy::Data => {
            statement(columns, message, true).build().execute(connection).await
        }
        added => added,
    };
    added.map(drop)
}

fn statement(columns: &Columns, message: &DeviceMessage<'_>, plain: bool) -> QueryBuilder<MySql> {
    let text = cut(&message.text, MESSAGE_BYTES_MAX);
    let department = message.org_id.map(|org| org.to_string()).unwrap_or_default();
    let texts = [
        ("device_sn", message.device_sn),
        ("message", &*text),
        ("department_info", &*department),
        ("message_type", "warning"),
        ("sender_type", "system"),
        ("receiver_type", if message.is_wearer { "user" } else { "manager" }),
        ("message_status", "1"),
    ];
    let numbers = [
        ("user_id", Some(message.user_id)),
        ("org_id", message.org_id),
        ("customer_id", Some(message.customer_id)),
        ("responded_number", Some(0)),
        ("is_deleted", Some(0)),
    ];
    let mut query = QueryBuilder::new(format!("INSERT INTO {TABLE} SET "));
    let mut values = query.separated(", ");
    for (name, text) in texts.into_iter().filter(|(name, _)| columns.has(name)) {
        let text = columns.fit(name, text, plain).into_owned();
        values.push(format!("`{name}` = ")).push_bind_unseparated(text);
    }
    for (name, number) in numbers.into_iter().filter(|(name, _)| columns.has(name)) {
        values.push(format!("`{name}` = ")).push_bind_unseparated(number);
    }
    for name in ["sent_time", "create_time", "update_time"] {
        if columns.has(name) {
            values.push(format!("`{name}` = NOW()"));
        }
    }
    query
}

/// Returns the text that the person reads: the platform's sentence, the device's user if the reader
/// is not the wearer, and the rule's text.
pub fn text(notice: &Notice, is_wearer: bool) -> String {
    let Notice { device_sn, user, .. } = notice;
    let (sign, level) = (notice.sign(), notice.severity.label());
    let urgent = |what: String| format!("设备{device_sn}{what}，严重级别：{level}，请及时处理。");
    let news = match notice.transition {
        TransitionKind::Opened | TransitionKind::Superseded if notice.flapping => {
            urgent(format!("反复发生{sign}告警"))
        }
        TransitionKind::Opened | TransitionKind::Superseded => urgent(format!("发生{sign}告警")),
        TransitionKind::Notified => urgent(format!("{sign}告警持续")),
        TransitionKind::Escalated => urgent(format!("{sign}告警级别变更")),
        TransitionKind::Resolved if notice.goes_on.is_some() => {
            let level = notice.level();
            format!("设备{device_sn}{sign}告警缓解，严重级别：{level}，请继续关注。")
        }
        TransitionKind::Resolved => format!("设备{device_sn}{sign}告警已恢复，严重级别：{level}。"),
        TransitionKind::Stale => format!("设备{device_sn}失联，{sign}告警关闭。"),
        TransitionKind::Closed => format!("设备{device_sn}更换佩戴者，{sign}告警关闭。"),
    };
    let delayed = if notice.delayed { "【延迟】" } else { "" };
    let whose = if is_wearer { String::new() } else { format!("（设备用户：{user}）") };
    let since = notice.since_text().map(|since| format!("（{since}）")).unwrap_or_default();
    format!("{delayed}{news}{whose}{since}{}", notice.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Silence;
    use crate::notify::notice::CLOSED_TEXT;
    use crate::rules::{Severity, Vital};
    use crate::test_support::notice;

    fn message() -> DeviceMessage<'static> {
        DeviceMessage {
            device_sn: "A1",
            text: "x".into(),
            user_id: 12,
            is_wearer: true,
            org_id: Some(3),
            customer_id: 7,
        }
    }

    #[test]
    fn only_columns_that_the_table_has_are_filled() {
        let columns = Columns::from(["id", "message", "user_id", "sent_time", "some_other"]);
        assert_eq!(
            statement(&columns, &message(), false).into_string(),
            "INSERT INTO t_device_message SET `message` = ?, `user_id` = ?, `sent_time` = NOW()"
        );
    }

    #[test]
    fn the_watch_says_what_is_wrong_with_a_device_that_is_missing() {
        let missing = |to, silence| {
            let notice = Notice { transition: to, vital: Vital::NoData, silence, ..notice() };
            text(&Notice { text: String::new(), ..notice }, true)
        };
        for (to, silence, expected) in [
            (
                TransitionKind::Opened,
                Silence::Silent,
                "设备A1发生设备失联告警，严重级别：严重，请及时处理。",
            ),
            (
                TransitionKind::Notified,
                Silence::ClockWrong,
                "设备A1设备时钟错误告警持续，严重级别：严重，请及时处理。",
            ),
            (
                TransitionKind::Resolved,
                Silence::Silent,
                "设备A1设备数据告警已恢复，严重级别：严重。",
            ),
        ] {
            assert_eq!(missing(to, silence), expected);
        }
    }

    #[test]
    fn people_read_the_platform_s_sentence_and_the_rule_s_text() {
        let notice = Notice { user: "王".into(), text: "心率 133".into(), ..notice() };
        assert_eq!(text(&notice, true), "设备A1发生心率告警，严重级别：严重，请及时处理。心率 133");
        assert_eq!(
            text(&notice, false),
            "设备A1发生心率告警，严重级别：严重，请及时处理。（设备用户：王）心率 133"
        );
        let since = Some("2025-09-02T11:50:00".parse().unwrap());
        let owed = Notice { transition: TransitionKind::Notified, since, ..notice.clone() };
        assert_eq!(
            text(&owed, true),
            "设备A1心率告警持续，严重级别：严重，请及时处理。（自 11:50 起）心率 133"
        );
        let over = Notice { transition: TransitionKind::Resolved, delayed: true, ..notice };
        assert_eq!(text(&over, true), "【延迟】设备A1心率告警已恢复，严重级别：严重。心率 133");
        let goes_on = Some(Severity::Major);
        let step_down = Notice { goes_on, delayed: false, ..over.clone() };
        assert_eq!(
            text(&step_down, true),
            "设备A1心率告警缓解，严重级别：高级，请继续关注。心率 133"
        );
        let closed = Notice {
            transition: TransitionKind::Closed,
            delayed: false,
            text: CLOSED_TEXT.into(),
            ..over
        };
        assert_eq!(
            text(&closed, false),
            "设备A1更换佩戴者，心率告警关闭。（设备用户：王）设备已更换佩戴者，告警关闭"
        );
    }
}
