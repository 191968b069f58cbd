//! For tests of several modules.

use std::sync::mpsc::channel;
use std::time::Duration;

/// No exchange takes this long.
const PATIENCE: Duration = Duration::from_mins(2);

/// Awaits what goes through sockets while a paused clock stands still.
///
/// Otherwise tokio moves such a clock to the next timer whenever no task can run, though the
/// kernel may have something on its way: on a busy machine it lets a thread of its own deliver
/// what was sent to 127.0.0.1.
pub(crate) async fn still<T>(exchange: impl Future<Output = T>) -> T {
    let (held, released) = channel::<()>();
    // No clock is moved while such a task runs. It ends in any case, for the deadlines of tests.
    let hold = tokio::task::spawn_blocking(move || released.recv_timeout(PATIENCE).ok());
    let result = exchange.await;
    drop(held);
    hold.await.unwrap();
    result
}
