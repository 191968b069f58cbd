//! The role `cleanup`: removes what the manager made, before an uninstallation.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::in_cluster;
use crate::api::labels;
use crate::cli;
use crate::cluster::slim::Metadata;
use crate::cluster::{self, client, timely};
use crate::config::kubernetes::File;
use crate::manager::{self, Renewals};

/// As in the label of its pod.
const COMPONENT: &str = "cleanup";

/// The value of [`labels::COMPONENT`] on its pods.
const MANAGER_COMPONENT: &str = "manager";

/// The job is given 240 seconds; here the reason is told.
const DEADLINE: Duration = Duration::from_secs(220);

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);

/// Services in one answer.
const PAGE: u32 = 250;

/// So many are removed at the same time.
const AT_ONCE: usize = 16;

/// Others take the Lease over that was not renewed for 15 seconds, and its holder has stopped to
/// write before.
const LEASE_EXPIRES: Duration = Duration::from_secs(16);

pub fn run(arguments: &cli::InCluster) -> anyhow::Result<ExitCode> {
    in_cluster::run(COMPONENT, arguments, |_: File| clean(arguments))
}

async fn clean(arguments: &cli::InCluster) -> anyhow::Result<ExitCode> {
    let client = client::connect(COMPONENT).await?;
    let cleanup = Cleanup {
        client,
        namespace: &arguments.namespace,
        end: Instant::now() + DEADLINE,
    };
    tokio::select! {
        cleaned = cleanup.run() => cleaned?,
        asked = in_cluster::asked_to_stop() => {
            asked?;
            bail!("stopped before everything was removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Cleanup<'a> {
    client: Client,
    /// Of the installation.
    namespace: &'a str,
    end: Instant,
}

impl Cleanup<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        // It would make again what is removed.
        self.stop_manager()
            .await
            .context("the manager cannot be stopped")?;
        self.remove_services()
            .await
            .context("the Services cannot be removed")?;
        self.remove_lease()
            .await
            .context("the manager's Lease cannot be removed")
    }

    async fn stop_manager(&self) -> anyhow::Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), self.namespace);
        let (params, scale) = (PatchParams::default(), json!({"spec": {"replicas": 0}}));
        let scale = Patch::Merge(scale);
        match self
            .patiently(|| deployments.patch_scale(manager::NAME, &params, &scale))
            .await
        {
            Ok(_) => info!("the manager is scaled to 0"),
            Err(error) if error.is_not_found() => info!("there is no manager"),
            Err(error) => return Err(error.into()),
        }
        let pods: Api<Metadata<Pod>> = Api::namespaced(self.client.clone(), self.namespace);
        let selector = format!("{}={MANAGER_COMPONENT}", labels::COMPONENT);
        // Evicted ones may stay for long.
        let params = ListParams::default()
            .labels(&selector)
            .fields("status.phase!=Failed,status.phase!=Succeeded");
        let mut renewals = Renewals::default();
        loop {
            let left = self.patiently(|| pods.list(&params)).await?.items;
            if left.is_empty() {
                info!("no pod of the manager is left");
                return Ok(());
            }
            let all_end = left.iter().all(|pod| pod.meta().deletion_timestamp.is_some());
            if all_end && renewals.have_ended(self.lease().await?, LEASE_EXPIRES) {
                warn!(
                    left = left.len(),
                    "pods of the manager do not end, perhaps their nodes are gone; none of them leads any more"
                );
                return Ok(());
            }
            self.wait(left.len(), "pods of the manager are left").await?;
        }
    }

    /// The manager's; nobody's if there is none.
    async fn lease(&self) -> anyhow::Result<LeaseSpec> {
        let leases = self.leases();
        let lease = self.patiently(|| leases.get_opt(manager::NAME)).await?;
        Ok(lease.and_then(|lease| lease.spec).unwrap_or_default())
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn remove_services(&self) -> anyhow::Result<()> {
        let everywhere: Api<Metadata<Service>> = Api::all(self.client.clone());
        let selector = format!(
            "{}={},{}={}",
            labels::MANAGED_BY,
            labels::MANAGER,
            labels::INSTALLATION,
            self.namespace
        );
        let params = ListParams::default().labels(&selector).limit(PAGE);
        let mut removed = 0;
        loop {
            let left = self.patiently(|| everywhere.list(&params)).await?.items;
            if left.is_empty() {
                info!(removed, "no Service of this installation is left");
                return Ok(());
            }
            // Those with a finalizer take their time.
            self.wait(left.len(), "Services are left").await?;
            removed += self.remove_all(&left).await?;
        }
    }

    async fn remove_lease(&self) -> anyhow::Result<()> {
        let (leases, params) = (self.leases(), DeleteParams::default());
        match self.patiently(|| leases.delete(manager::NAME, &params)).await {
            Ok(_) => info!("the manager's Lease is removed"),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// How many of them were there.
    async fn remove_all(&self, services: &[Metadata<Service>]) -> anyhow::Result<usize> {
        let removals = stream::iter(services).map(|service| self.remove(service));
        let removals = removals.buffer_unordered(AT_ONCE);
        removals
            .try_fold(0, async |removed, was_there| Ok(removed + usize::from(was_there)))
            .await
    }

    /// Whether it was there, as it was seen: what somebody has put in its place since is theirs.
    async fn remove(&self, service: &Metadata<Service>) -> anyhow::Result<bool> {
        let meta = service.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: meta.resource_version.clone(),
                uid: meta.uid.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.patiently(|| services.delete(name, &params)).await {
            Ok(_) => Ok(true),
            // Where it is still there and still ours, the next look finds it.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
            Err(error) => Err(error).with_context(|| format!("{namespace}/{name}")),
        }
    }

    /// Asks again where the API server is in trouble or busy.
    async fn patiently<T, F>(&self, request: impl Fn() -> F) -> Result<T, cluster::Error>
    where
        F: Future<Output = kube::Result<T>>,
    {
        loop {
            match timely(request()).await {
                Err(error) if error.is_temporary() && Instant::now() < self.end => {
                    warn!(%error, "asking again");
                    sleep(error.retry_after().unwrap_or(LOOK)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn wait(&self, left: usize, what: &str) -> anyhow::Result<()> {
        if Instant::now() >= self.end {
            bail!("after {} seconds, {left} {what}", DEADLINE.as_secs());
        }
        info!(left, "{what}");
        sleep(LOOK).await;
        Ok(())
    }
}
