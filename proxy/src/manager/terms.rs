//! What a manager does while it leads, and how it stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::ListParams;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::lease::Leadership;
use super::ports::Ports;
use super::queue::Queue;
use super::reconcile::Reconciler;
use super::service::{self, Seen};
use super::{Broken, Config};
use crate::api::labels;
use crate::cluster::{self, timely};

/// Names that are worked on at a time: enough for thousands after a start, too few to press an API
/// server.
const WORKERS: usize = 8;

/// How long the writes that are under way may take at the end.
const LAST_WRITES: Duration = Duration::from_secs(6);

/// The looks of a cycle are spread over this part of it, and no longer than that.
const SPREAD: f64 = 0.25;
const LONGEST_SPREAD: Duration = Duration::from_secs(30);

/// Services in one answer.
const PAGE: u32 = 250;

/// After a failure to list the target ports that are in use.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Terms {
    config: Config,
    queue: Queue,
    reconciler: Arc<Reconciler>,
    leadership: Leadership,
    workers: JoinSet<()>,
    stop: CancellationToken,
}

impl Terms {
    pub(super) fn new(
        config: Config,
        queue: Queue,
        reconciler: Arc<Reconciler>,
        leadership: Leadership,
    ) -> Self {
        Self {
            config,
            queue,
            reconciler,
            leadership,
            workers: JoinSet::new(),
            stop: CancellationToken::new(),
        }
    }

    /// One term after the other, until something breaks.
    pub(super) async fn serve(&mut self) -> Broken {
        let mut leadership = self.leadership.clone();
        let leader = self.reconciler.writer.metrics.leader.clone();
        loop {
            leadership.gained().await;
            leader.set(1);
            tokio::select! {
                broken = self.term() => return broken,
                () = leadership.lost() => {}
            }
            leader.set(0);
            self.finish().await;
        }
    }

    /// Begins nothing new, and lets what is under way end.
    pub(super) async fn finish(&mut self) {
        std::mem::take(&mut self.stop).cancel();
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if timeout(LAST_WRITES, ended).await.is_err() {
            warn!("writes are given up");
            self.workers.shutdown().await;
        }
    }

    /// Whatever happened before: what other leaders did is known only from what there is now.
    async fn term(&mut self) -> Broken {
        self.reconciler.world.complete().await;
        let ports = loop {
            match self.ports_in_use().await {
                Ok(ports) => break ports,
                Err(error) => warn!(%error, "the target ports that are in use are not known"),
            }
            sleep(AGAIN).await;
        };
        *self.reconciler.ports() = ports;
        self.queue.clear();
        for name in self.reconciler.world.names() {
            self.queue.push(&name);
        }
        for _ in 0..WORKERS {
            let work = work(
                Arc::clone(&self.reconciler),
                self.queue.clone(),
                self.stop.clone(),
            );
            self.workers.spawn(work);
        }
        let cycles = cycles(
            Arc::clone(&self.reconciler),
            self.queue.clone(),
            self.config.interval,
        );
        tokio::select! {
            never = cycles => match never {},
            Some(Err(panic)) = self.workers.join_next() => Broken(panic),
        }
    }

    /// Read from the API server, because watches may be late with what another leader did last.
    async fn ports_in_use(&self) -> Result<Ports, cluster::Error> {
        let installation = &self.config.installation;
        let client = self.reconciler.writer.client.clone();
        let services: Api<service::Wire> = Api::namespaced(client, &installation.namespace);
        let selector = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut found: Vec<(Box<service::Ours>, u16)> = Vec::new();
        loop {
            let page = timely(services.list(&params)).await?;
            found.extend(page.items.into_iter().filter_map(|wire| {
                let Seen::Ours(ours) = Seen::read(wire, installation) else {
                    return None;
                };
                let port = ours.target_port()?;
                Some((ours, port))
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                None => break,
                next => params.continue_token = next,
            }
        }
        // Of two with the same port, which somebody must have made so, the older one keeps it.
        found.sort_by_key(|(ours, _)| ours.created);
        let mut ports = Ports::new(self.config.target_ports.clone());
        for (ours, port) in &found {
            ports.adopt(&ours.cr, *port);
        }
        info!(
            target_ports = found.len(),
            "target ports that are in use are kept"
        );
        Ok(ports)
    }
}

/// Everything is looked at again and again, for what no watch tells.
async fn cycles(reconciler: Arc<Reconciler>, queue: Queue, interval: Duration) -> Infallible {
    let spread = interval.mul_f64(SPREAD).min(LONGEST_SPREAD);
    loop {
        sleep(interval).await;
        for name in reconciler.world.names() {
            queue.push_later(&name, spread.mul_f64(fastrand::f64()));
        }
    }
}

async fn work(reconciler: Arc<Reconciler>, queue: Queue, stop: CancellationToken) {
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = queue.next() => next,
        };
        let waiting = i64::try_from(queue.len()).unwrap_or(i64::MAX);
        reconciler.writer.metrics.waiting.set(waiting);
        reconciler.look(next).await;
    }
}
