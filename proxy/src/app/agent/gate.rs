//! From an accepted connection to one that is served: who is it, and may it come in?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use super::callers::{Callers, Trace, Wanted};
use super::door::Door;
use super::refusals::{At, Reason, Refusal, RefusalLog};
use crate::accept::{self, Accepted, Bounds, Limits, Over, Usage};
use crate::flow::{self, Endpoint};
use crate::lifecycle::drain::DrainWatch;
use crate::lifecycle::workers::Workers;
use crate::resolve::directory::{CrName, Entrance};
use crate::resolve::scope::{Audience, Caller, Refused};

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
    /// Of its plane.
    limits: ArcSwap<Limits>,
    admitted: AtomicU64,
    waits: AtomicU64,
    /// Where another Service has the same target port, the one that is served here.
    contested: ArcSwapOption<Entrance>,
}

impl Way {
    pub(super) fn new(cr: CrName, door: Door, endpoint: Arc<Endpoint>, limits: &Arc<Limits>) -> Self {
        Self {
            cr,
            door,
            endpoint,
            limits: ArcSwap::new(Arc::clone(limits)),
            admitted: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            contested: ArcSwapOption::empty(),
        }
    }

    /// For new connections, when the destination has become one of the other plane.
    pub(super) fn keep_to(&self, limits: &Arc<Limits>) {
        self.limits.store(Arc::clone(limits));
    }

    pub(super) fn usage(&self) -> Usage {
        self.limits.load().usage()
    }

    /// How often connections had to wait because the plane had no room.
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
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

/// The limits of one destination's listener, and what is told of them.
pub(super) struct Turnstile {
    pub(super) gate: Arc<Gate>,
    pub(super) way: Arc<Way>,
}

impl Bounds for Turnstile {
    fn limits(&self) -> Arc<Limits> {
        self.way.limits.load_full()
    }

    fn refused(&self, over: &Over<'_>) {
        let callers = &self.gate.callers;
        let caller = callers.at_hand(callers.trace(over.stream, over.peer.ip()));
        self.gate.refusals.add(&Refusal {
            conn_id: Some(over.id),
            cr: Some(self.way.cr.clone()),
            caller: caller.to_string(),
            address: over.peer,
            reason: Reason::Limit(over.limit),
            at: At::Accept,
        });
    }

    fn waits(&self) {
        self.way.waits.fetch_add(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) async fn enter(self: Arc<Self>, accepted: Accepted, way: Arc<Way>) {
        let wanted = match way.door.audience() {
            Audience::Cluster => Wanted::AtHand,
            Audience::Namespace(_) => Wanted::Certain,
        };
        let trace = self.callers.trace(&accepted.stream, accepted.peer.ip());
        if self.may_mean_another(&accepted, &way) {
            let caller = self.callers.at_hand(trace);
            return self.refuse(accepted, &way.cr, &caller, Reason::TargetPortOfTwo);
        }
        let begin = Instant::now();
        let (caller, admitted) = self.admit(trace, wanted, &way).await;
        if let Some(behalf) = &way.endpoint.parts().http.behalf {
            behalf.steps.caller.took(begin.elapsed());
        }
        match admitted {
            Ok(drain) => {
                way.admitted.fetch_add(1, Ordering::Relaxed);
                let admitted = Accepted { drain, ..accepted };
                flow::hand_over(admitted, self.workers.clone(), Arc::clone(&way.endpoint)).await;
            }
            Err(refused) => self.refuse(accepted, &way.cr, &caller, Reason::Scope(refused)),
        }
    }

    /// Who it is, and whether it may come in. Whether that has to be known can change on the way.
    pub(super) async fn admit(
        &self,
        trace: Trace,
        mut wanted: Wanted,
        way: &Way,
    ) -> (Caller, Result<DrainWatch, Refused>) {
        loop {
            let caller = self.callers.identify(trace, wanted).await;
            match way.door.admit(trace, &caller) {
                Err(Refused::Unknown(_)) if wanted == Wanted::AtHand => wanted = Wanted::Certain,
                decided => return (caller, decided),
            }
        }
    }

    /// Decides about those who came in while nobody had to know them.
    pub(super) async fn look_again(self: Arc<Self>, undecided: Vec<Trace>, way: Arc<Way>) {
        let decide = async |trace: Trace| {
            let caller = self.callers.identify(trace, Wanted::Certain).await;
            way.door.decide(trace, &caller);
        };
        futures_util::future::join_all(undecided.into_iter().map(decide)).await;
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
            conn_id: Some(accepted.id),
            cr: Some(cr.clone()),
            caller: caller.to_string(),
            address: accepted.peer,
            reason,
            at: At::Accept,
        });
        accept::reset(accepted.stream);
    }
}
