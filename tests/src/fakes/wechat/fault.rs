//! Chooses the fault of the next call. Carrying a fault out belongs to [`super::call`].

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The calls that a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Requests for a token.
    Token,
    /// Sends with a valid token. A call that fails for its token uses up no fault.
    Send,
}

/// Whether the fault comes before or after the platform's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The platform does nothing.
    Before,
    /// The platform does its work: a message is delivered, and its sender cannot know.
    After,
}

/// The effect of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The call fails with this errcode, and nothing is done.
    Errcode(i64),
    /// The call is handled after this delay.
    Delay(Duration),
    /// The call hangs until the fault ends, then continues.
    Hang(Moment),
    /// The connection is cut without an answer.
    Cut(Moment),
    /// An HTML page with this HTTP status, as from a proxy in front of the platform.
    Page(u16),
    /// JSON without an errcode and without a token, as from a proxy on the way.
    NoErrcode,
}

/// A fault: its calls, its effect, its account and its count.
#[derive(Debug, Clone)]
pub struct Fault {
    endpoint: Endpoint,
    effect: Effect,
    account: Option<String>,
    times: Option<usize>,
}

impl Fault {
    /// A fault of every call to `endpoint` until the fault is ended.
    pub const fn on(endpoint: Endpoint, effect: Effect) -> Self {
        Self { endpoint, effect, account: None, times: None }
    }

    /// Limits the fault to the next `times` calls.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Limits the fault to the account with this appid or corp id.
    #[must_use]
    pub fn of(self, account: &str) -> Self {
        Self { account: Some(account.to_owned()), ..self }
    }
}

/// An active fault.
#[derive(Debug, Clone)]
pub struct Injected {
    ended: CancellationToken,
}

impl Injected {
    /// Ends the fault. Calls that hang continue.
    pub fn end(&self) {
        self.ended.cancel();
    }
}

/// The active faults, oldest first. If several match a call, the oldest applies.
#[derive(Debug, Default)]
pub(super) struct Faults {
    injected: Vec<(Fault, CancellationToken)>,
    all: CancellationToken,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault) -> Injected {
        let ended = self.all.child_token();
        self.injected.push((fault, ended.clone()));
        Injected { ended }
    }

    /// Ends all faults, including used-up faults by which a call still hangs.
    pub(super) fn end(&mut self) {
        self.injected.clear();
        std::mem::take(&mut self.all).cancel();
    }

    /// Returns the effect on the next call of `account`, and the token that is cancelled when the
    /// fault ends.
    pub(super) fn strike(
        &mut self,
        endpoint: Endpoint,
        account: &str,
    ) -> Option<(Effect, CancellationToken)> {
        self.injected.retain(|(fault, ended)| fault.times != Some(0) && !ended.is_cancelled());
        let (fault, ended) = self.injected.iter_mut().find(|(fault, _)| {
            fault.endpoint == endpoint && fault.account.as_deref().is_none_or(|of| of == account)
        })?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some((fault.effect, ended.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_fault_that_fits_strikes_as_often_as_it_shall() {
        let mut faults = Faults::default();
        faults.inject(Fault::on(Endpoint::Send, Effect::Errcode(1)).of("wx1").times(2));
        let lasting = faults.inject(Fault::on(Endpoint::Send, Effect::Errcode(2)));
        faults.inject(Fault::on(Endpoint::Token, Effect::Errcode(3)).times(1));
        faults.inject(Fault::on(Endpoint::Token, Effect::Errcode(4)).times(0));
        let mut code = |endpoint, account| match faults.strike(endpoint, account) {
            Some((Effect::Errcode(code), _)) => code,
            _ => 0,
        };
        assert_eq!([code(Endpoint::Send, "wx2"), code(Endpoint::Send, "wx1")], [2, 1]);
        assert_eq!([code(Endpoint::Token, "wx1"), code(Endpoint::Token, "wx1")], [3, 0]);
        assert_eq!([code(Endpoint::Send, "wx1"), code(Endpoint::Send, "wx1")], [1, 2]);
        lasting.end();
        assert_eq!(code(Endpoint::Send, "wx1"), 0);
    }

    #[test]
    fn ending_all_faults_ends_the_one_by_which_a_call_still_hangs() {
        let mut faults = Faults::default();
        faults.inject(Fault::on(Endpoint::Send, Effect::Hang(Moment::Before)).times(1));
        let (_, ended) = faults.strike(Endpoint::Send, "wx1").unwrap();
        assert!(!ended.is_cancelled());
        faults.end();
        assert!(ended.is_cancelled());
        faults.inject(Fault::on(Endpoint::Send, Effect::NoErrcode));
        let (_, ended) = faults.strike(Endpoint::Send, "wx1").unwrap();
        assert!(!ended.is_cancelled(), "a fault of afterwards is another one");
    }
}
