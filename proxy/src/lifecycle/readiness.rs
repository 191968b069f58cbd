//! Ready when nobody holds a latch any more.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the process still waits for before it can serve. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Vec<Part>>>);

/// What is not ready, and perhaps why.
type Part = Cow<'static, str>;

/// Keeps the process from being ready until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it says that this part is ready"]
pub struct Latch {
    readiness: Readiness,
    part: Part,
}

impl Readiness {
    /// Says that `part` is not ready; also later, when something that worked fails.
    pub fn latch(&self, part: impl Into<Cow<'static, str>>) -> Latch {
        let part = part.into();
        self.parts().push(part.clone());
        Latch {
            readiness: self.clone(),
            part,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.parts().is_empty()
    }

    /// The parts that are not ready, for status pages.
    pub fn pending(&self) -> Vec<Cow<'static, str>> {
        self.parts().clone()
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        let mut parts = self.readiness.parts();
        if let Some(at) = parts.iter().position(|part| *part == self.part) {
            parts.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_latch_is_released() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let listeners = readiness.latch("listeners");
        let hook = readiness.latch("hook");
        drop(listeners);
        assert_eq!(readiness.pending(), ["hook"]);
        drop(hook);
        assert!(readiness.is_ready());
    }
}
