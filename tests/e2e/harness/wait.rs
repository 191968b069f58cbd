//! Waiting with a deadline, and for how long it took.

use std::time::Duration;

use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks until there is an answer; panics with the name of what was waited for, and the last reason.
pub fn eventually<T>(within: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) => assert!(
                start.elapsed() < within,
                "{what}: not within {within:?}; at last: {reason}"
            ),
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// A condition without much to say about why not.
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually(within, what, || {
        condition().then_some(()).ok_or_else(|| "not yet".to_owned())
    });
}
