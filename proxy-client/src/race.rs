//! Several addresses of one guest: which connection attempt wins (RFC 8305, "Happy Eyeballs").
//!
//! An address that swallows packets must not hold up the others. The next attempt starts when the one before has failed, or
//! a quarter of a second after it started; the first connection wins, and the other attempts end. Sections 3 and 4 of the
//! RFC, on resolving and sorting, are not here: the order is the operator's.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

/// RFC 8305, section 5: the recommended Connection Attempt Delay.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// The first that succeeds, with what it was tried on; else every failure, in the order in which they came.
pub(crate) async fn first<'a, A, T, E, F>(
    candidates: &'a [A],
    attempt: impl Fn(&'a A) -> F,
) -> Result<(T, &'a A), Vec<(&'a A, E)>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting: VecDeque<&'a A> = candidates.iter().collect();
    let mut running: Vec<(&'a A, Pin<Box<F>>)> = Vec::new();
    let mut failed = Vec::new();
    let mut next = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let mut at = 0;
            let before = failed.len();
            while let Some((candidate, running_attempt)) = running.get_mut(at) {
                match running_attempt.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(done)) => return Poll::Ready(Ok((done, *candidate))),
                    Poll::Ready(Err(error)) => {
                        let (candidate, _) = running.remove(at);
                        failed.push((candidate, error));
                    }
                }
            }
            let is_due = failed.len() > before || running.is_empty() || next.as_mut().poll(cx).is_ready();
            if !is_due {
                return Poll::Pending;
            }
            match waiting.pop_front() {
                Some(candidate) => {
                    running.push((candidate, Box::pin(attempt(candidate))));
                    next.as_mut().reset(Instant::now() + NEXT_AFTER);
                }
                None if running.is_empty() => return Poll::Ready(Err(std::mem::take(&mut failed))),
                None => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds until an attempt ends, and whether it succeeds.
    type Script = (u64, bool);

    async fn run(scripts: &[Script]) -> (Option<usize>, Duration) {
        let started = Instant::now();
        let won = first(scripts, |(millis, succeeds)| async move {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
            succeeds.then_some(()).ok_or(())
        })
        .await;
        let position = won.ok().and_then(|((), script)| scripts.iter().position(|other| std::ptr::eq(other, script)));
        (position, started.elapsed())
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_costs_a_quarter_of_a_second() {
        let (won, took) = run(&[(60_000, false), (10, true)]).await;
        assert_eq!(won, Some(1));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing() {
        let (won, took) = run(&[(1, false), (1, false), (1, true)]).await;
        assert_eq!(won, Some(2));
        assert!(took < Duration::from_millis(200), "{took:?}");
    }

    #[tokio::test]
    async fn the_first_address_wins_where_it_answers_in_time_and_a_slow_one_stays_in_the_race() {
        assert_eq!(run(&[(200, true), (1, true)]).await.0, Some(0));
        assert_eq!(run(&[(400, true), (60_000, true)]).await.0, Some(0));
    }

    #[tokio::test]
    async fn every_failure_is_returned() {
        let failed = first(&[1, 2, 3], |number| async move { Err::<(), _>(*number) }).await.unwrap_err();
        assert_eq!(failed, [(&1, 1), (&2, 2), (&3, 3)]);
        assert!(first(&[], |number: &u8| async move { Err::<(), _>(*number) }).await.unwrap_err().is_empty());
    }
}
