//! A failed call, and the remedies for the platforms' errcodes.
//!
//! Pure. [`crate::notify::sender`] decides what follows from a remedy.

use crate::rules::Channel;

/// A failed call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The remedy for the failure.
    pub remedy: ErrcodeRemedy,
    /// The platform's errcode, if the platform answered.
    pub errcode: Option<i64>,
    /// Whether the message may have reached the person: it was on its way, and no answer arrived.
    pub uncertain: bool,
    /// A description of the failure. Holds no secret, and no address with a secret.
    pub message: String,
}

impl Failure {
    /// A failure after which the message has certainly not reached the person.
    pub fn new(remedy: ErrcodeRemedy, errcode: Option<i64>, message: String) -> Self {
        Self { remedy, errcode, uncertain: false, message }
    }

    /// Whether the platform refuses a value for the type of its field. Otherwise it refuses words.
    pub fn is_of_template(&self) -> bool {
        self.errcode == Some(47003)
    }

    /// Returns the platform's answer and what an operator can do about it.
    pub fn advice(&self) -> String {
        let answer = match self.errcode {
            Some(errcode) => format!("errcode {errcode}, {}", self.message),
            None => self.message.clone(),
        };
        let advice = match (self.errcode, self.remedy) {
            (None, _) => "look at the network and at the platform's base address",
            (Some(40013 | 41002), _) => "correct appid or corp_id",
            (Some(40001 | 40125 | 41004), _) => "correct appsecret or secret",
            (Some(40056 | 301002), _) => "correct agent_id",
            (Some(40037 | 43116), _) => "correct template_id, and template_fields with it",
            (Some(47003), _) => "correct template_fields",
            (Some(40164 | 45035 | 60020 | 61004), _) => {
                "add this host's address to the platform's list of allowed addresses"
            }
            (_, ErrcodeRemedy::DropRecipient) => {
                "the person must follow the account, or belong to the application's visible range"
            }
            _ => "see WechatFailing in the runbook",
        };
        format!("{answer}: {advice}")
    }

    /// Returns the template's field that the platform's error message names, as in
    /// `data.thing1.value invalid`.
    pub fn refused_field(&self) -> Option<&str> {
        let (_, rest) = self.message.split_once("data.")?;
        let name = rest.split(|one: char| !one.is_ascii_alphanumeric() && one != '_').next()?;
        Some(name).filter(|name| !name.is_empty())
    }
}

/// The remedy for an errcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrcodeRemedy {
    /// Retry later.
    Retry,
    /// Retry a few times, then treat the failure as [`Self::ConfigError`].
    RetryThenConfigError,
    /// Retry a few times, then treat the failure as [`Self::Permanent`].
    RetryThenPermanent,
    /// Request another token and retry once.
    RefreshToken,
    /// Retry once a limit is reset.
    WaitUntil(Reset),
    /// Drop the message: this account cannot reach the recipient any more.
    DropRecipient,
    /// Pause the account until an operator changes something.
    ConfigError,
    /// Send the refused fields in their plain form at once. If no form is plainer, the template is at
    /// fault, or the words are.
    Plainer,
    /// Fail the message: the platform will never accept it.
    Permanent,
}

/// The time at which a limit is reset, and its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The account, within a minute.
    AccountMinute,
    /// The account, at the next day.
    AccountDay,
    /// One recipient, after a pause.
    Recipient,
    /// The memory of an equal message, which the platform does not take twice within a minute.
    Duplicate,
}

/// Returns the metric label of an errcode. Undocumented errcodes share one label. Otherwise a
/// server in the platform's place could fill the metrics' memory.
pub fn label(errcode: i64) -> String {
    let is_known = |channel: &Channel| {
        ErrcodeRemedy::of(*channel, errcode) != ErrcodeRemedy::RetryThenPermanent
    };
    if Channel::ALL.iter().any(is_known) { errcode.to_string() } else { "other".to_owned() }
}

impl ErrcodeRemedy {
    /// Returns the remedy for an errcode of a channel's platform. The same number can mean another
    /// thing on the other platform.
    pub fn of(channel: Channel, errcode: i64) -> Self {
        use Channel::{Official, Wecom};
        match (channel, errcode) {
            // System busy; bursts cause it.
            (_, -1) => Self::Retry,
            (_, 40001 | 40014 | 41001 | 42001) => Self::RefreshToken,
            // Account or company unknown, or its name or secret missing.
            (_, 40013 | 41002 | 41004) => Self::ConfigError,
            // Not JSON, or a field missing.
            (_, 47001) => Self::Permanent,
            // Secret wrong, caller's address not allowed, or account not permitted.
            (Official, 40125 | 40164 | 45035 | 48001 | 48004 | 50001 | 50002 | 61004) => {
                Self::ConfigError
            }
            // Template banned.
            (Official, 43116) => Self::ConfigError,
            // Template unknown; also seen for a moment in bursts.
            (Official, 40037) => Self::RetryThenConfigError,
            // Openid wrong, not a follower, or messages rejected by the person.
            (Official, 40003 | 43004 | 43101) => Self::DropRecipient,
            // The recipient got too many messages.
            (Official, 43117) => Self::WaitUntil(Reset::Recipient),
            (Official, 45011) => Self::WaitUntil(Reset::AccountMinute),
            (Official, 45009) => Self::WaitUntil(Reset::AccountDay),
            // The person got the same message within the last minute.
            (Official, 40241) => Self::WaitUntil(Reset::Duplicate),
            // Content blocked, or under review; a value that does not fit its field.
            (Official, 40249 | 40252 | 47003) => Self::Plainer,
            // A window or limit of another kind of message.
            (Official, 45015 | 45047) => Self::Permanent,
            // Application unknown, missing, disabled or not ours, or secret wrong.
            (Wecom, 40056 | 40091 | 41011 | 41024 | 50003 | 301002 | 2000002) => Self::ConfigError,
            // Caller's address not allowed, or account not permitted.
            (Wecom, 48001 | 48002 | 48004 | 60020) => Self::ConfigError,
            // User id wrong, unknown, outside the application's visible range, or never joined.
            (Wecom, 40003 | 40031 | 43004 | 46004 | 50002 | 60011 | 60111 | 81013 | 82001) => {
                Self::DropRecipient
            }
            // On WeCom 45009 is a frequency limit of a minute, not the day's quota.
            (Wecom, 45009) => Self::WaitUntil(Reset::AccountMinute),
            // Too many calls at once.
            (Wecom, 45033) => Self::Retry,
            // Kind of message or field wrong, empty or too long.
            (Wecom, 40008 | 40033 | 40035 | 40058 | 40063 | 44004 | 45002) => Self::Permanent,
            _ => Self::RetryThenPermanent,
        }
    }

    /// Returns the remedy if the errcode answers a request for a token. No message is at fault
    /// then: what does not pass by itself is the account's fault, such as a frozen secret.
    pub fn of_token_request(self) -> Self {
        match self {
            Self::Retry | Self::WaitUntil(_) => self,
            _ => Self::ConfigError,
        }
    }
}

#[cfg(test)]
mod tests {
    use Channel::{Official, Wecom};
    use ErrcodeRemedy::*;

    use super::*;

    #[test]
    fn a_label_is_a_documented_code_or_other() {
        assert_eq!(label(40001), "40001");
        assert_eq!(label(81013), "81013");
        assert_eq!(label(1_234_567), "other");
    }

    /// Errcode, the official accounts' remedy, WeCom's remedy.
    const SENT: [(i64, ErrcodeRemedy, ErrcodeRemedy); 37] = [
        (-1, Retry, Retry),
        (40001, RefreshToken, RefreshToken),
        (40014, RefreshToken, RefreshToken),
        (42001, RefreshToken, RefreshToken),
        (41001, RefreshToken, RefreshToken),
        (40013, ConfigError, ConfigError),
        (40056, RetryThenPermanent, ConfigError),
        (301002, RetryThenPermanent, ConfigError),
        (40164, ConfigError, RetryThenPermanent),
        (45035, ConfigError, RetryThenPermanent),
        (61004, ConfigError, RetryThenPermanent),
        (60020, RetryThenPermanent, ConfigError),
        (48001, ConfigError, ConfigError),
        (48002, RetryThenPermanent, ConfigError),
        (48004, ConfigError, ConfigError),
        (50001, ConfigError, RetryThenPermanent),
        (50002, ConfigError, DropRecipient),
        (40003, DropRecipient, DropRecipient),
        (43004, DropRecipient, DropRecipient),
        (43101, DropRecipient, RetryThenPermanent),
        (60111, RetryThenPermanent, DropRecipient),
        (81013, RetryThenPermanent, DropRecipient),
        (40037, RetryThenConfigError, RetryThenPermanent),
        (47001, Permanent, Permanent),
        (47003, Plainer, RetryThenPermanent),
        (40249, Plainer, RetryThenPermanent),
        (40252, Plainer, RetryThenPermanent),
        (40241, WaitUntil(Reset::Duplicate), RetryThenPermanent),
        (43116, ConfigError, RetryThenPermanent),
        (45015, Permanent, RetryThenPermanent),
        (45002, RetryThenPermanent, Permanent),
        (43117, WaitUntil(Reset::Recipient), RetryThenPermanent),
        (45009, WaitUntil(Reset::AccountDay), WaitUntil(Reset::AccountMinute)),
        (45011, WaitUntil(Reset::AccountMinute), RetryThenPermanent),
        (45033, RetryThenPermanent, Retry),
        (45047, Permanent, RetryThenPermanent),
        (99999, RetryThenPermanent, RetryThenPermanent),
    ];

    #[test]
    fn every_known_code_of_a_send_has_its_remedy_on_each_platform() {
        for (errcode, official, wecom) in SENT {
            assert_eq!(ErrcodeRemedy::of(Official, errcode), official, "{errcode}");
            assert_eq!(ErrcodeRemedy::of(Wecom, errcode), wecom, "{errcode}");
        }
    }

    #[test]
    fn the_refused_field_is_found_in_every_form_of_the_message() {
        for (errmsg, field) in [
            ("argument invalid! data.thing1.value invalid rid: 64d4912a-5e4f2ce4", Some("thing1")),
            ("argument invalid! data.time2.value is empty rid: 5f325159", Some("time2")),
            (
                "argument invalid! hint: [26.orA01123945] data.character_string1.value i",
                Some("character_string1"),
            ),
            ("argument invalid! data.phone_number6", Some("phone_number6")),
            ("argument invalid! hint: [26.orA01123945]", None),
            ("argument invalid! data. value", None),
        ] {
            let message = format!("/cgi-bin/message/template/send: {errmsg}");
            let failure = Failure::new(Plainer, Some(47003), message);
            assert_eq!(failure.refused_field(), field, "{errmsg}");
        }
    }

    #[test]
    fn an_answer_is_shown_with_what_to_do_about_it() {
        for (errcode, advice) in [
            (None, "look at the network"),
            (Some(40125), "correct appsecret"),
            (Some(40164), "add this host's address"),
            (Some(45035), "add this host's address"),
            (Some(40037), "correct template_id"),
            (Some(43004), "the person must follow"),
            (Some(48001), "see WechatFailing"),
        ] {
            let remedy = errcode.map_or(Retry, |code| ErrcodeRemedy::of(Official, code));
            let shown = Failure::new(remedy, errcode, "/path: said".to_owned()).advice();
            assert!(shown.contains(&format!("/path: said: {advice}")), "{shown}");
            assert_eq!(errcode.is_some(), shown.starts_with("errcode "), "{shown}");
        }
    }

    #[test]
    fn what_lasts_of_a_request_for_a_token_is_the_account_s_fault() {
        let remedy = |channel, errcode| ErrcodeRemedy::of(channel, errcode).of_token_request();
        for channel in [Official, Wecom] {
            for errcode in [40001, 40013, 40014, 40243, 41002, 41004, 42001, 47001, 50004, 99999] {
                assert_eq!(remedy(channel, errcode), ConfigError, "{errcode}");
            }
            assert_eq!(remedy(channel, -1), Retry);
        }
        assert_eq!(remedy(Wecom, 45009), WaitUntil(Reset::AccountMinute));
        assert_eq!(remedy(Wecom, 60020), ConfigError);
    }
}
