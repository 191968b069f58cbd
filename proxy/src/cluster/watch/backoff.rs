//! Pauses between attempts.

use std::time::Duration;

/// Doubles up to a limit; a random part of each pause keeps clients from coming back all at once.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.nominal();
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// No pause, unless there was one just before: for what is in order once, but not in a row.
    pub(super) fn next_but_first(&mut self) -> Duration {
        if self.failures == 0 {
            self.failures = 1;
            return Duration::ZERO;
        }
        self.next()
    }

    fn nominal(&self) -> Duration {
        let factor = 2u32.saturating_pow(self.failures.min(16));
        self.first.saturating_mul(factor).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(8);

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for nominal in [500, 1000, 2000, 4000, 8000, 8000, 8000] {
            let nominal = Duration::from_millis(nominal);
            let pause = backoff.next();
            assert!(
                pause >= nominal / 2 && pause <= nominal,
                "{pause:?} of {nominal:?}"
            );
        }
    }

    #[test]
    fn the_limit_holds_after_days() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        backoff.failures = u32::MAX;
        assert!(backoff.next() <= LONGEST);
    }

    #[test]
    fn the_first_is_free_where_nothing_failed_before() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        assert_eq!(backoff.next_but_first(), Duration::ZERO);
        assert!(backoff.next_but_first() >= FIRST / 2);
        backoff.reset();
        assert_eq!(backoff.next_but_first(), Duration::ZERO);
    }
}
