//! From an accepted connection to one that is served: who is it, and may it come in?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::callers::{Callers, Wanted};
use super::door::Door;
use super::refusals::{At, Reason, Refusal, RefusalLog};
use crate::accept::{self, Accepted};
use crate::flow::{self, Endpoint};
use crate::lifecycle::workers::Workers;
use crate::resolve::directory::{CrName, Entrance};
use crate::resolve::scope::{Audience, Caller};

/// The target port is that of two Services.
const AMBIGUOUS: Reason = Reason::NotServed("target_port_of_two");

/// What is asked about every connection.
pub(super) struct Gate {
    pub(super) callers: Arc<Callers>,
    pub(super) refusals: RefusalLog,
    pub(super) workers: Workers,
}

/// The destination behind one listener.
pub(super) struct Way {
    pub(super) cr: CrName,
    pub(super) door: Door,
    pub(super) endpoint: Arc<Endpoint>,
    admitted: AtomicU64,
    /// Where another Service has the same target port, the one that is served here.
    contested: ArcSwapOption<Entrance>,
}

impl Way {
    pub(super) fn new(cr: CrName, door: Door, endpoint: Arc<Endpoint>) -> Self {
        Self {
            cr,
            door,
            endpoint,
            admitted: AtomicU64::new(0),
            contested: ArcSwapOption::empty(),
        }
    }

    /// Another Service leads here, too, or `None` does.
    pub(super) fn contest(&self, served: Option<Arc<Entrance>>) {
        self.contested.store(served);
    }

    /// Connections that were let in so far.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.door.open()
    }
}

impl Gate {
    pub(super) async fn enter(self: Arc<Self>, accepted: Accepted, way: Arc<Way>) {
        let wanted = match way.door.audience() {
            Audience::Cluster => Wanted::AtHand,
            Audience::Namespace(_) => Wanted::Certain,
        };
        let source = accepted.peer.ip();
        if self.may_mean_another(&accepted, &way) {
            let caller = self
                .callers
                .identify(&accepted.stream, source, Wanted::AtHand)
                .await;
            return self.refuse(accepted, &way.cr, &caller, AMBIGUOUS);
        }
        let caller = self.callers.identify(&accepted.stream, source, wanted).await;
        match way.door.admit(&caller) {
            Ok(drain) => {
                way.admitted.fetch_add(1, Ordering::Relaxed);
                let admitted = Accepted { drain, ..accepted };
                flow::hand_over(admitted, self.workers.clone(), Arc::clone(&way.endpoint)).await;
            }
            Err(refused) => self.refuse(accepted, &way.cr, &caller, Reason::Scope(refused.as_str())),
        }
    }

    /// Two Services lead here, and the hook does not say that the one was meant that is served.
    /// kube-proxy does not tell, and the other one's callers must not get this one's credentials.
    fn may_mean_another(&self, accepted: &Accepted, way: &Way) -> bool {
        let Some(served) = way.contested.load_full() else {
            return false;
        };
        let meant = self.callers.meant(&accepted.stream);
        !meant.is_some_and(|meant| served.port == meant.port() && served.addresses.contains(&meant.ip()))
    }

    fn refuse(&self, accepted: Accepted, cr: &CrName, caller: &Caller, reason: Reason) {
        self.refusals.add(&Refusal {
            cr: Some(cr.clone()),
            caller: caller.to_string(),
            address: accepted.peer,
            reason,
            at: At::Accept,
        });
        accept::reset(accepted.stream);
    }
}
