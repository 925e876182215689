//! Runs the search of a topic on a thread of its own. What it has found by the deadline counts.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use anyhow::Context;
use tokio::time::timeout_at;

use super::answers::{Position, TopicMatches};
use crate::commands::part::Part;

/// The reason why a search ended before its end.
const LATE: &str = "not read within --timeout";

/// What a search has found so far.
pub struct Progress<T>(Weak<Mutex<TopicMatches<T>>>);

impl<T> Progress<T> {
    /// Changes what was found. Fails once nobody waits for the search any more.
    pub fn update(&self, change: impl FnOnce(&mut TopicMatches<T>)) -> anyhow::Result<()> {
        let found = self.0.upgrade().context("nobody waits for the search any more")?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut found);
        Ok(())
    }
}

/// Searches a topic until the deadline. The answer is unknown if the search did not begin.
pub async fn run<T: Clone + Send + 'static>(
    deadline: Instant,
    place: impl Fn(&T) -> Position,
    search: impl FnOnce(&Progress<T>) -> anyhow::Result<()> + Send + 'static,
) -> Part<TopicMatches<T>> {
    let shared = Arc::new(Mutex::new(TopicMatches::new(Vec::new())));
    let progress = Progress(Arc::downgrade(&shared));
    let searching = tokio::task::spawn_blocking(move || search(&progress));
    let stopped = match timeout_at(deadline.into(), searching).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(format!("{error:#}")),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(LATE.to_owned()),
    };
    let mut found = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    found.matches.sort_by_key(place);
    match stopped {
        Some(reason) if found.searched.is_empty() => Part::Unknown(reason),
        stopped => Part::Known(TopicMatches { stopped, ..found }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::answers::SearchedRange;
    use super::*;

    #[tokio::test]
    async fn what_was_found_by_the_deadline_counts() {
        let place = |offset: i64| Position { partition: 0, offset };
        let range = SearchedRange { partition: 0, from: 0, to: 9, cut: false };
        let (end, ended) = mpsc::channel::<()>();
        let deadline = Instant::now() + Duration::from_secs(1);
        let answer = run::<Position>(
            deadline,
            |position| *position,
            move |progress| {
                progress.update(|found| {
                    found.searched = vec![range];
                    found.matches = vec![place(5), place(3)];
                })?;
                // Kafka is silent from here on.
                ended.recv()?;
                Ok(())
            },
        )
        .await;
        drop(end);
        let expected = TopicMatches {
            matches: vec![place(3), place(5)],
            stopped: Some(LATE.to_owned()),
            ..TopicMatches::new(vec![range])
        };
        assert_eq!(answer, Part::Known(expected));
    }

    #[tokio::test]
    async fn a_search_that_did_not_begin_is_unknown() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer =
            run::<Position>(deadline, |position| *position, |_| anyhow::bail!("no topic")).await;
        assert_eq!(answer, Part::Unknown("no topic".to_owned()));
    }
}
