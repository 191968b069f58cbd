//! The one who acts: opens and closes, announces and withdraws, as what is known changes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::callers::{Callers, Kernel};
use super::entries::Entries;
use super::feeds::Known;
use super::hook::Loaded;
use super::identities;
use super::numbers::Numbers;
use super::pod_table::PodTable;
use super::refusals::RefusalLog;
use crate::datapath::Exempt;
use crate::lifecycle::supervisor::Supervisor;
use crate::resolve::source::secrets::{Change, Changes};

/// Destinations that nobody asks for between two looks are put to rest.
const REST: Duration = Duration::from_mins(10);
/// A listener that could not be opened, because the one before it had not been closed yet,
/// or because somebody else has the port.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What the control may be asked for.
pub(super) enum Order {
    /// Tells when all that is known has been acted upon.
    Settle(oneshot::Sender<()>),
}

pub(super) struct Control {
    pub(super) known: Known,
    pub(super) entries: Entries,
    pub(super) destinations: Changes,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) loaded: mpsc::Receiver<Loaded>,
    pub(super) hooked: Hooked,
    pub(super) supervisor: Supervisor,
}

/// What changes hands when the programs are loaded.
pub(super) struct Hooked {
    pub(super) callers: Arc<Callers>,
    /// Pods of this node.
    pub(super) node: PodTable,
    pub(super) numbers: Numbers,
    pub(super) refusals: RefusalLog,
    /// For the dialer, whose sockets are not redirected.
    pub(super) exempt: Arc<ArcSwapOption<Exempt>>,
}

impl Control {
    /// Never ends; may be dropped at any time.
    pub(super) async fn run(mut self) {
        let mut known = self.known.changes();
        let mut rest = interval(REST);
        rest.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = Retry::default();
        loop {
            tokio::select! {
                Ok(()) = known.changed() => self.update(),
                Some(change) = self.destinations.next() => self.entries.refresh(&change),
                Some(loaded) = self.loaded.recv() => self.use_hook(loaded),
                Some(Order::Settle(settled)) = self.orders.recv() => {
                    self.update();
                    self.entries.refresh(&Change::All);
                    // Who asked has given up.
                    let _ = settled.send(());
                }
                _ = rest.tick() => self.entries.rest(),
                () = retry.due(&self.entries) => self.entries.retry(),
            }
        }
    }

    fn update(&mut self) {
        let known = &self.known;
        self.entries.update(known.take_changes(), |cr| {
            known.look(|directory| directory.standing(cr))
        });
    }

    fn use_hook(&mut self, loaded: Loaded) {
        // First the listeners, then the addresses that lead to them.
        self.update();
        self.entries.announce(loaded.virtual_ips);
        let hooked = &self.hooked;
        hooked.exempt.store(Some(Arc::new(loaded.exempt)));
        hooked.callers.use_kernel(Kernel {
            origins: loaded.origins,
            cgroups: loaded.cgroups.clone(),
            callers: loaded.callers.clone(),
        });
        let cgroups = loaded.cgroups.clone();
        self.supervisor.spawn(async move { cgroups.follow().await });
        let (node, numbers) = (hooked.node.clone(), hooked.numbers.clone());
        let telling = identities::tell(loaded.cgroups, node, numbers, loaded.callers);
        self.supervisor.spawn(telling);
        if let Some(refusals) = loaded.refusals {
            let (callers, log) = (Arc::clone(&hooked.callers), hooked.refusals.clone());
            let board = self.entries.board();
            let reading = identities::log_refusals(refusals, callers, board, log);
            self.supervisor.spawn(reading);
        }
        // Who loaded them has given up.
        let _ = loaded.ready.send(());
    }
}

/// Soon, then less and less often.
#[derive(Default)]
struct Retry {
    next: Option<(Instant, Duration)>,
}

impl Retry {
    async fn due(&mut self, entries: &Entries) {
        if !entries.has_failed() {
            self.next = None;
            return std::future::pending().await;
        }
        let now = Instant::now();
        let (at, pause) = *self.next.get_or_insert((now + RETRY.0, RETRY.0));
        sleep_until(at).await;
        let pause = (pause * 2).min(RETRY.1);
        self.next = Some((Instant::now() + pause, pause));
    }
}
