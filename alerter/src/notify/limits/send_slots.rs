//! Bounds the sends under way, of each account and on each channel.
//!
//! So an account that does not answer takes no slot of another account, and a platform that does not
//! answer takes no slot of another channel.
//!
//! Pure. [`crate::notify::sender`] takes a slot before it claims a row, and frees it after the send.
//! The slot of a send that has ended stays taken for a while, so that accounts take turns.

use std::collections::HashSet;

use super::rate_limit::RecipientKey;
use crate::rules::Channel;

/// Sends under way of one account.
const ACCOUNT_SLOTS: usize = 8;

/// Sends under way on one platform.
const PLATFORM_SLOTS: usize = 64;

/// Messages to watches that are being written: each needs a connection to MySQL.
const MESSAGE_SLOTS: usize = 4;

/// The slot of one row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendSlot {
    /// The row's id.
    pub id: i64,
    /// The row's channel.
    pub channel: Channel,
    /// The account that sends the row.
    pub account: String,
    /// The row's recipient.
    pub recipient: RecipientKey,
}

/// The slots of the sends under way.
#[derive(Debug, Clone, Default)]
pub struct SendSlots {
    taken: Vec<SendSlot>,
    /// The rows of `taken` whose send has ended.
    ended: HashSet<i64>,
}

impl SendSlots {
    /// Returns the slots of `wanted` that are free together, in their order. A row under way gets no
    /// second one: its lease ends while MySQL does not take its outcome.
    ///
    /// A recipient gets one slot at a time. So rows of a recipient begin in their order, and the
    /// last message of the minute is the most severe of those that wait.
    pub fn choose(&self, wanted: impl IntoIterator<Item = SendSlot>) -> Vec<SendSlot> {
        let mut taken = self.clone();
        let mut chosen: Vec<SendSlot> = Vec::new();
        for slot in wanted {
            let is_first = chosen.iter().all(|other| other.recipient != slot.recipient);
            if is_first && taken.has_room(&slot) {
                taken.take(slot.clone());
                chosen.push(slot);
            }
        }
        chosen
    }

    /// Takes a chosen slot.
    pub fn take(&mut self, slot: SendSlot) {
        self.taken.push(slot);
    }

    /// Records that the send of this row has ended.
    pub fn end(&mut self, id: i64) {
        self.ended.insert(id);
    }

    /// Frees the slots of sends that have ended.
    pub fn free_ended(&mut self) {
        self.taken.retain(|slot| !self.ended.contains(&slot.id));
        self.ended.clear();
    }

    /// Returns the accounts without a free slot.
    pub fn full_accounts(&self) -> HashSet<String> {
        let accounts = self.taken.iter().map(|slot| &slot.account);
        accounts.filter(|account| !self.has_slot(account)).cloned().collect()
    }

    /// Returns the channels without a free slot.
    pub fn full_channels(&self) -> Vec<Channel> {
        Channel::ALL.into_iter().filter(|channel| self.is_full(*channel)).collect()
    }

    /// Returns the slots of the sends under way that have not ended.
    pub fn live(&self) -> impl Iterator<Item = &SendSlot> {
        self.taken.iter().filter(|slot| !self.ended.contains(&slot.id))
    }

    fn has_room(&self, wanted: &SendSlot) -> bool {
        let is_under_way = self.taken.iter().any(|slot| slot.id == wanted.id);
        !is_under_way && self.has_slot(&wanted.account) && !self.is_full(wanted.channel)
    }

    fn has_slot(&self, account: &str) -> bool {
        self.taken.iter().filter(|slot| slot.account == account).count() < ACCOUNT_SLOTS
    }

    fn is_full(&self, channel: Channel) -> bool {
        let slots = match channel {
            Channel::Official | Channel::Wecom => PLATFORM_SLOTS,
            Channel::Message => MESSAGE_SLOTS,
        };
        self.taken.iter().filter(|slot| slot.channel == channel).count() >= slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: i64, channel: Channel, account: &str) -> SendSlot {
        let recipient = (7, format!("{}:{id}", channel.kind()));
        SendSlot { id, channel, account: account.into(), recipient }
    }

    fn taken(count: i64, channel: Channel, account: impl Fn(i64) -> String) -> SendSlots {
        let taken = (0..count).map(|id| slot(id, channel, &account(id))).collect();
        SendSlots { taken, ended: HashSet::new() }
    }

    fn ids(slots: &[SendSlot]) -> Vec<i64> {
        slots.iter().map(|slot| slot.id).collect()
    }

    fn live(slots: &SendSlots) -> Vec<i64> {
        slots.live().map(|slot| slot.id).collect()
    }

    #[test]
    fn an_account_that_hangs_takes_no_slot_of_another() {
        let mut slots = taken(7, Channel::Official, |_| "wx7".into());
        let wanted = [
            slot(20, Channel::Official, "wx7"),
            slot(21, Channel::Official, "wx7"),
            slot(22, Channel::Official, "wx8"),
            slot(23, Channel::Message, "message:7"),
        ];
        let chosen = slots.choose(wanted);
        assert_eq!(ids(&chosen), [20, 22, 23]);
        assert!(slots.full_accounts().is_empty());
        chosen.into_iter().for_each(|slot| slots.take(slot));
        assert_eq!(slots.full_accounts(), HashSet::from(["wx7".to_owned()]));
        slots.end(3);
        assert!(!slots.full_accounts().is_empty(), "others come first");
        slots.free_ended();
        assert!(slots.full_accounts().is_empty());
        assert_eq!(ids(&slots.choose([slot(21, Channel::Official, "wx7")])), [21]);
    }

    #[test]
    fn a_platform_that_hangs_takes_no_slot_of_another_channel() {
        let slots = taken(64, Channel::Official, |id| format!("wx{}", id / 4));
        assert_eq!(slots.full_channels(), [Channel::Official]);
        let wanted = [
            slot(90, Channel::Official, "another"),
            slot(91, Channel::Wecom, "ww7"),
            slot(92, Channel::Message, "message:7"),
        ];
        assert_eq!(ids(&slots.choose(wanted)), [91, 92]);
    }

    #[test]
    fn a_row_under_way_is_not_sent_again_beside_itself() {
        let mut slots = taken(1, Channel::Official, |_| "wx7".into());
        let row = || [slot(0, Channel::Official, "wx7")];
        assert!(slots.choose(row()).is_empty());
        slots.end(0);
        assert!(slots.choose(row()).is_empty());
        slots.free_ended();
        assert_eq!(ids(&slots.choose(row())), [0]);
    }

    #[test]
    fn a_recipient_s_rows_begin_one_after_the_other() {
        let mut slots = SendSlots::default();
        let nurse = slot(1, Channel::Official, "wx7");
        let wanted =
            [nurse.clone(), SendSlot { id: 2, ..nurse.clone() }, slot(3, Channel::Official, "wx7")];
        let chosen = slots.choose(wanted.clone());
        assert_eq!(ids(&chosen), [1, 3]);
        chosen.into_iter().for_each(|slot| slots.take(slot));
        assert_eq!(ids(&slots.choose(wanted)), [2], "beside the first");
        assert_eq!(live(&slots), [1, 3]);
    }

    #[test]
    fn a_send_is_under_way_until_it_ends() {
        let mut slots = SendSlots::default();
        slots.take(slot(1, Channel::Official, "wx7"));
        slots.take(slot(2, Channel::Official, "wx7"));
        assert_eq!(live(&slots), [1, 2]);
        slots.end(2);
        assert_eq!(live(&slots), [1]);
    }
}
