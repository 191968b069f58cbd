//! Who leads: the holder of a Lease.
//!
//! The holder renews it every two seconds. Whoever sees it unchanged for fifteen takes it over; the
//! holder itself stops writing ten seconds after it sent the last renewal that succeeded, by its own
//! monotonic clock: nobody's wall clock matters, and there are five seconds for what is on its way.
//! The times are those of [Kubernetes' own components].
//!
//! [Kubernetes' own components]: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::api::labels;
use crate::cluster::{self, timely_within};

#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) renew_every: Duration,
    /// So long after a renewal was sent it counts.
    pub(super) deadline: Duration,
    /// So long others leave a lease alone.
    pub(super) duration: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            renew_every: Duration::from_secs(2),
            deadline: Duration::from_secs(10),
            duration: Duration::from_secs(15),
        }
    }
}

/// Tells whether this process leads. Clones tell the same.
#[derive(Debug, Clone)]
pub(super) struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    leads: watch::Receiver<bool>,
}

impl Leadership {
    /// For how long nobody else can be the leader, whatever happens; none where somebody may be.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until?
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    pub(super) async fn gained(&mut self) {
        self.becomes(true).await;
    }

    pub(super) async fn lost(&mut self) {
        self.becomes(false).await;
    }

    async fn becomes(&mut self, wanted: bool) {
        if self.leads.wait_for(|leads| *leads == wanted).await.is_err() && wanted {
            // Nobody tries any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Tries to lead, for ever.
pub(super) struct Elector {
    leases: Api<Lease>,
    name: &'static str,
    identity: String,
    timing: Timing,
    until: Arc<Mutex<Option<Instant>>>,
    leads: watch::Sender<bool>,
    /// Of somebody else's lease.
    renewals: Renewals,
    /// Ours, as the API server has it.
    held: Option<Lease>,
}

/// For how long a Lease was not renewed, as far as somebody has watched it. By the clock of this
/// process: nobody's wall clock matters.
#[derive(Debug, Default)]
pub struct Renewals(Option<(Record, Instant)>);

impl Renewals {
    /// Whether the Lease, as it is now, was not renewed for so long.
    pub fn have_ended(&mut self, lease: LeaseSpec, duration: Duration) -> bool {
        let record = Record {
            holder: lease.holder_identity.unwrap_or_default(),
            renewed: lease.renew_time.map(|time| time.0),
        };
        match &self.0 {
            Some((seen, since)) if *seen == record => since.elapsed() >= duration,
            _ => {
                self.0 = Some((record, Instant::now()));
                false
            }
        }
    }
}

/// What changes with every renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    holder: String,
    renewed: Option<Timestamp>,
}

impl Elector {
    pub(super) fn new(
        leases: Api<Lease>,
        name: &'static str,
        identity: String,
        timing: Timing,
    ) -> (Self, Leadership) {
        let until = Arc::new(Mutex::new(None));
        let (sender, leads) = watch::channel(false);
        let leadership = Leadership {
            until: Arc::clone(&until),
            leads,
        };
        let elector = Self {
            leases,
            name,
            identity,
            timing,
            until,
            leads: sender,
            renewals: Renewals::default(),
            held: None,
        };
        (elector, leadership)
    }

    /// Tries, renews, until `stop` resolves; then lets go of the lease, so that the next one need
    /// not wait.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let begin = Instant::now();
            tokio::select! {
                () = self.turn() => {}
                () = &mut stop => break,
            }
            let next = self.timing.renew_every.saturating_sub(begin.elapsed());
            tokio::select! {
                () = self.rest(next) => {}
                () = &mut stop => break,
            }
        }
        self.release().await;
    }

    /// One attempt.
    async fn turn(&mut self) {
        let begin = Instant::now();
        let limit = self.timing.renew_every.max(Duration::from_secs(1)) * 2;
        match self.attempt(limit).await {
            Ok(true) => {
                self.set_until(Some(begin + self.timing.deadline));
                if !self.leads.send_replace(true) {
                    info!(identity = self.identity, "leading");
                }
            }
            Ok(false) => self.step_down("somebody else leads"),
            Err(error) if self.held.is_some() => warn!(%error, "the lease could not be renewed"),
            Err(error) => info!(%error, "the lease could not be looked at"),
        }
    }

    /// Waits, but gives up in time a lease that could not be renewed.
    async fn rest(&mut self, time: Duration) {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let end = Instant::now() + time;
        match until.filter(|until| *until < end) {
            Some(until) => {
                tokio::time::sleep_until(until).await;
                self.step_down("the lease could not be renewed in time");
                tokio::time::sleep_until(end).await;
            }
            None => sleep(time).await,
        }
    }

    fn step_down(&mut self, reason: &'static str) {
        self.set_until(None);
        self.held = None;
        if self.leads.send_replace(false) {
            warn!(identity = self.identity, reason, "not leading any more");
        }
    }

    fn set_until(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether the lease is ours now.
    async fn attempt(&mut self, limit: Duration) -> Result<bool, cluster::Error> {
        if let Some(held) = &self.held {
            let renewed = renewed(held.clone());
            match self.replace(&renewed, limit).await {
                Err(error) if error.is_conflict() || error.is_not_found() => self.held = None,
                replaced => return replaced.map(|()| true),
            }
        }
        let Some(lease) = timely_within(limit, self.leases.get_opt(self.name)).await? else {
            return self.create(limit).await;
        };
        if !self.may_take(&lease) {
            return Ok(false);
        }
        let taken = self.taken(lease);
        match self.replace(&taken, limit).await {
            Err(error) if error.is_conflict() => Ok(false),
            replaced => replaced.map(|()| true),
        }
    }

    /// It is nobody's, or was not renewed for as long as we have been watching it.
    fn may_take(&mut self, lease: &Lease) -> bool {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        holder.is_empty() || holder == self.identity || self.renewals.have_ended(spec, self.timing.duration)
    }

    async fn create(&mut self, limit: Duration) -> Result<bool, cluster::Error> {
        let lease = self.taken(Lease {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                labels: Some([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        match timely_within(limit, self.leases.create(&params(), &lease)).await {
            Ok(created) => {
                self.held = Some(created);
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn replace(&mut self, lease: &Lease, limit: Duration) -> Result<(), cluster::Error> {
        // The version in it lets nobody overwrite what somebody else wrote meanwhile.
        let replaced = timely_within(limit, self.leases.replace(self.name, &params(), lease)).await?;
        self.held = Some(replaced);
        Ok(())
    }

    fn taken(&self, mut lease: Lease) -> Lease {
        let before = lease.spec.take().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.map_or(0, |count| count + 1)),
            ..LeaseSpec::default()
        });
        lease
    }

    async fn release(mut self) {
        let held = self.held.take();
        self.set_until(None);
        self.leads.send_replace(false);
        let Some(mut lease) = held else { return };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match self.replace(&lease, self.timing.renew_every).await {
            Ok(()) => info!("the lease is released"),
            Err(error) => info!(%error, "the lease was not released"),
        }
    }
}

fn renewed(mut lease: Lease) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    lease
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(labels::MANAGER.to_owned()),
        ..PostParams::default()
    }
}

#[cfg(test)]
mod tests;
