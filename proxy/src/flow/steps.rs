//! How long the steps of connections and requests take: to name the one that is slow, not to measure it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Those that wait for somebody else.
#[derive(Debug, Default)]
pub struct Steps {
    /// To know who connects.
    pub caller: Step,
    /// Only where they were not at hand.
    pub credentials: Step,
    /// Only where there was no connection to the target yet.
    pub connect: Step,
    /// From the request to the head of the target's answer.
    pub answer: Step,
}

/// How long one of them took so far.
#[derive(Debug, Default)]
pub struct Step {
    count: AtomicU64,
    micros: AtomicU64,
    longest: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    pub count: u64,
    pub average: Duration,
    pub longest: Duration,
}

impl Step {
    pub fn took(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        // Mostly it is not the longest, and to read is cheaper.
        if self.longest.load(Ordering::Relaxed) < micros {
            self.longest.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// `None` if it was never taken.
    pub fn so_far(&self) -> Option<Took> {
        let count = self.count.load(Ordering::Relaxed);
        Some(Took {
            count,
            average: Duration::from_micros(self.micros.load(Ordering::Relaxed).checked_div(count)?),
            longest: Duration::from_micros(self.longest.load(Ordering::Relaxed)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_and_longest_are_told_once_there_is_something() {
        let step = Step::default();
        assert_eq!(step.so_far(), None);
        for millis in [1, 8, 3] {
            step.took(Duration::from_millis(millis));
        }
        let took = Took {
            count: 3,
            average: Duration::from_millis(4),
            longest: Duration::from_millis(8),
        };
        assert_eq!(step.so_far(), Some(took));
    }
}
