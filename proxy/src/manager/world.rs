//! The picture of the cluster: what watches have shown, by name.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::{Api, Client};
use tracing::warn;

use self::index::Index;
use super::Installation;
use super::custom_resource::{self, CustomResource};
use super::plan::Inputs;
use super::queue::Queue;
use super::service::{self, Seen};
use crate::api::labels;
use crate::cluster::slim::Metadata;
use crate::cluster::watch::{Change, Key, Query, Reader, Task, Watches};
use crate::config::kubernetes::ManagedNamespacesMode;

/// All that plans are made of, but for the destinations.
pub(super) struct World {
    installation: Arc<Installation>,
    crs: Reader<CustomResource>,
    crs_by_name: Index,
    services: Reader<Seen>,
    /// Services of ours, by the name of the CR that they were made for.
    made_for: Index,
    /// None where all are managed.
    namespaces: Option<Reader<()>>,
}

/// Where the picture comes from.
pub(super) struct Sources<'a> {
    pub(super) client: &'a Client,
    pub(super) watches: &'a Watches,
    pub(super) mode: ManagedNamespacesMode,
}

impl World {
    /// The picture, and the tasks that keep it. Names of what changes go into `queue`.
    pub(super) fn watch(
        installation: &Arc<Installation>,
        sources: &Sources<'_>,
        queue: &Queue,
    ) -> (Arc<Self>, Vec<Task>) {
        let mut tasks = Vec::new();
        let crs_by_name = Index::default();
        let (crs, task) =
            Query::<custom_resource::Wire>::new(Api::all(sources.client.clone()), "destinations").start(
                sources.watches,
                |wire| Some(CustomResource::read(wire)),
                cr_changed(crs_by_name.clone(), queue.clone()),
            );
        tasks.push(task);
        let made_for = Index::default();
        let (services, task) = Query::<service::Wire>::new(Api::all(sources.client.clone()), "services")
            .start(
                sources.watches,
                {
                    let installation = Arc::clone(installation);
                    move |wire| Some(Seen::read(wire, &installation))
                },
                service_changed(crs_by_name.clone(), made_for.clone(), queue.clone()),
            );
        tasks.push(task);
        let mut world = Self {
            installation: Arc::clone(installation),
            crs,
            crs_by_name,
            services,
            made_for,
            namespaces: None,
        };
        if sources.mode == ManagedNamespacesMode::LabelSelector {
            let (namespaces, task) = world.watch_namespaces(sources, queue);
            world.namespaces = Some(namespaces);
            tasks.push(task);
        }
        (Arc::new(world), tasks)
    }

    /// Only those with our label; one that loses it is told as gone.
    fn watch_namespaces(&self, sources: &Sources<'_>, queue: &Queue) -> (Reader<()>, Task) {
        let selector = format!("{}={}", labels::NAMESPACE, self.installation.namespace);
        let namespaces = Api::all(sources.client.clone());
        Query::<Metadata<v1::Namespace>>::new(namespaces, "namespaces")
            .labels(selector)
            .start(sources.watches, |_| Some(()), {
                let (crs, queue) = (self.crs.clone(), queue.clone());
                move |change| {
                    crs.for_each(|key, _| {
                        if key.namespace == change.key.name {
                            queue.push(&key.name);
                        }
                    });
                }
            })
    }

    /// Everything was listed once: what is not in the picture does not exist.
    pub(super) async fn complete(&self) {
        self.crs.synced().await;
        self.services.synced().await;
        if let Some(namespaces) = &self.namespaces {
            namespaces.synced().await;
        }
    }

    /// Everything that is called like this.
    pub(super) fn inputs(&self, name: &str) -> Inputs<Arc<CustomResource>, Arc<Seen>> {
        let crs: BTreeMap<Key, Arc<CustomResource>> = self
            .crs_by_name
            .of(name)
            .into_iter()
            .filter(|key| self.is_managed(&key.namespace))
            .filter_map(|key| Some((key.clone(), self.crs.get(&key.namespace, &key.name)?)))
            .collect();
        let mut places = self.made_for.of(name);
        places.extend(crs.keys().cloned());
        places.insert(Key::new(&self.installation.namespace, name));
        let services = places
            .into_iter()
            .filter_map(|key| Some((key.clone(), self.services.get(&key.namespace, &key.name)?)))
            .collect();
        Inputs { crs, services }
    }

    fn is_managed(&self, namespace: &str) -> bool {
        match &self.namespaces {
            None => true,
            Some(namespaces) => namespaces.get("", namespace).is_some(),
        }
    }

    /// All there is to look at: CRs, and what was made for CRs that may be gone.
    pub(super) fn names(&self) -> BTreeSet<Box<str>> {
        let mut names = self.crs_by_name.names();
        names.extend(self.made_for.names());
        names
    }

    /// Names of CRs that refer to any of these destinations.
    pub(super) fn names_referring_to(&self, destinations: &BTreeSet<Arc<str>>) -> BTreeSet<Box<str>> {
        let mut names = BTreeSet::new();
        self.crs.for_each(|key, cr| {
            if destinations.contains(cr.destination.spec.destination_ref.name.as_str()) {
                names.insert(key.name.clone());
            }
        });
        names
    }

    /// Waits until the picture shows what was written; versions are those from before.
    pub(super) async fn shows(&self, written: &Written) {
        self.services
            .until(|services| {
                written.services.iter().all(|(key, before)| {
                    let seen = services.get(&key.namespace, &key.name);
                    let version = seen
                        .as_ref()
                        .and_then(|seen| seen.ours())
                        .map(|ours| &ours.version);
                    version != before.as_ref()
                })
            })
            .await;
        self.crs
            .until(|crs| {
                written.crs.iter().all(|(key, before)| {
                    crs.get(&key.namespace, &key.name)
                        .is_none_or(|cr| cr.version != *before)
                })
            })
            .await;
    }
}

/// Objects that were written, with their versions before that: none for what was not there.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) services: Vec<(Key, Option<String>)>,
    pub(super) crs: Vec<(Key, String)>,
}

fn cr_changed(index: Index, queue: Queue) -> impl FnMut(Change<'_, CustomResource>) + Send + 'static {
    move |change| {
        match change.after {
            Some(_) => index.insert(&change.key.name, change.key),
            None => index.remove(&change.key.name, change.key),
        }
        if let (None, Some(broken)) = (change.before, change.after.and_then(|cr| cr.broken.as_ref())) {
            warn!(destination = %change.key, error = broken, "the Destination CR is not understood");
        }
        let is_news = match (change.before, change.after) {
            (Some(before), Some(after)) => !before.means_the_same(after),
            _ => true,
        };
        if is_news {
            queue.push(&change.key.name);
        }
    }
}

/// Any change: also one that somebody made to a Service of ours, and one of theirs that came or went.
fn service_changed(
    crs: Index,
    made_for: Index,
    queue: Queue,
) -> impl FnMut(Change<'_, Seen>) + Send + 'static {
    move |change| {
        let cr = |seen: Option<&Arc<Seen>>| Some(seen?.ours()?.cr.name.clone());
        let (before, after) = (cr(change.before), cr(change.after));
        if before != after {
            if let Some(name) = &before {
                made_for.remove(name, change.key);
            }
            if let Some(name) = &after {
                made_for.insert(name, change.key);
            }
        }
        // Most Services of a cluster have nothing to do with any CR.
        let its_own = Some(change.key.name.clone()).filter(|name| crs.has(name));
        for name in [before, after, its_own].into_iter().flatten() {
            queue.push(&name);
        }
    }
}
