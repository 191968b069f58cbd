//! The destinations of all Secrets, with one writer and readers that never wait.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use smallvec::SmallVec;
use tracing::{info, warn};

use super::changes::{Announcer, Change, Changes};
use super::claim::{Claim, SecretName};
use super::data_keys::DataKeys;
use super::parse;
use super::snapshot::{Saved, Snapshot};
use super::{AllowedNamespaces, FindError, Query, Refused};
use crate::api::labels;
use crate::resolve::destination::Destination;

/// A change copies one shard. With thousands of destinations that are some dozens.
const SHARDS: usize = 64;

/// All Secrets that want to be one destination; the first one is it.
type Claims = SmallVec<[Arc<Claim>; 1]>;
type Shard = HashMap<Arc<str>, Claims>;

struct Shared {
    shards: Vec<ArcSwap<Shard>>,
    hasher: RandomState,
    /// Each namespace has been listed once.
    loaded: AtomicBool,
    restored: ArcSwap<HashMap<Arc<str>, Restored>>,
    announcer: Announcer,
}

/// Out of a snapshot, until all Secrets have been listed.
struct Restored {
    allowed: AllowedNamespaces,
    destination: Arc<Destination>,
}

/// An empty store for the Secrets of these namespaces.
pub fn store(namespaces: impl IntoIterator<Item = String>) -> (Writer, Reader) {
    let namespaces: BTreeSet<String> = namespaces.into_iter().collect();
    let shared = Arc::new(Shared {
        shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
        hasher: RandomState::new(),
        loaded: AtomicBool::new(namespaces.is_empty()),
        restored: ArcSwap::default(),
        announcer: Announcer::new(),
    });
    let reader = Reader(Arc::clone(&shared));
    let writer = Writer {
        shared,
        missing: namespaces.clone(),
        namespaces,
        claims: HashMap::new(),
        listing: HashMap::new(),
    };
    (writer, reader)
}

impl Shared {
    fn shard(&self, destination: &str) -> &ArcSwap<Shard> {
        &self.shards[self.index(destination)]
    }

    fn index(&self, destination: &str) -> usize {
        let hash = self.hasher.hash_one(destination) % (SHARDS as u64);
        usize::try_from(hash).unwrap_or_default()
    }
}

/// Looks destinations up. Clones see the same.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

impl Reader {
    /// The destination as it is now.
    pub fn find(&self, query: &Query<'_>) -> Result<Arc<Destination>, FindError> {
        // Before the shard: once this is true, the shard is complete. Until then an older Secret of
        // the same name may still come from another namespace.
        if !self.is_loaded() {
            return self.restored(query).ok_or(FindError::NotLoaded);
        }
        let shard = self.0.shard(query.destination).load();
        match shard.get(query.destination).and_then(|claims| claims.first()) {
            Some(claim) if claim.allowed.allows(query.cr_namespace) => {
                claim.outcome.clone().map_err(FindError::Invalid)
            }
            Some(_) | None => Err(FindError::NotFound),
        }
    }

    /// The Secret that is this destination, or wants to be.
    pub fn secret(&self, destination: &str) -> Option<SecretName> {
        let shard = self.0.shard(destination).load();
        let first = shard.get(destination)?.first()?;
        Some(first.secret.clone())
    }

    fn restored(&self, query: &Query<'_>) -> Option<Arc<Destination>> {
        let restored = self.0.restored.load();
        let restored = restored.get(query.destination)?;
        let allowed = restored.allowed.allows(query.cr_namespace);
        allowed.then(|| Arc::clone(&restored.destination))
    }

    /// Whether every namespace has been listed, so that what is not found does not exist.
    pub fn is_loaded(&self) -> bool {
        self.0.loaded.load(Ordering::Acquire)
    }

    pub fn subscribe(&self) -> Changes {
        self.0.announcer.subscribe()
    }

    /// The destinations that need no credential; none before all Secrets have been listed.
    pub fn snapshot(&self) -> Option<Snapshot> {
        if !self.is_loaded() {
            return None;
        }
        let mut saved = Vec::new();
        self.for_each(|claims| {
            let first = claims.first();
            saved.extend(first.and_then(|claim| {
                Some(Saved {
                    allowed_namespaces: claim.allowed.clone(),
                    properties: claim.harmless.clone()?,
                })
            }));
        });
        Some(Snapshot::new(saved))
    }

    /// Secrets that are no destination although they want to be, in the order of their names.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        self.for_each(|claims| reports.extend(Report::of(claims)));
        reports.sort_by(|one, other| one.secret.cmp(&other.secret));
        reports
    }

    fn for_each(&self, mut f: impl FnMut(&Claims)) {
        for shard in &self.0.shards {
            shard.load().values().for_each(&mut f);
        }
    }
}

/// A Secret that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub secret: SecretName,
    /// The name that it wants.
    pub destination: Arc<str>,
    pub trouble: Trouble,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    Refused(Arc<Refused>),
    /// An older Secret has the name.
    Taken(SecretName),
}

impl Report {
    fn of(claims: &Claims) -> Vec<Self> {
        let Some((first, others)) = claims.split_first() else {
            return Vec::new();
        };
        let report = |claim: &Claim, trouble| Self {
            secret: claim.secret.clone(),
            destination: Arc::clone(&claim.destination),
            trouble,
        };
        let refused = first.outcome.as_ref().err();
        let refused = refused.map(|refused| report(first, Trouble::Refused(Arc::clone(refused))));
        let taken = others
            .iter()
            .map(|other| report(other, Trouble::Taken(first.secret.clone())));
        refused.into_iter().chain(taken).collect()
    }
}

/// Told of the Secrets as kube's watcher tells: `init`, one `init_apply` for each, `init_done`
/// for each list of a namespace; `apply` and `delete` in between.
pub struct Writer {
    shared: Arc<Shared>,
    namespaces: BTreeSet<String>,
    /// Not listed yet.
    missing: BTreeSet<String>,
    claims: HashMap<SecretName, Arc<Claim>>,
    /// What the list that is under way has brought so far.
    listing: HashMap<String, HashMap<SecretName, Arc<Claim>>>,
}

impl Writer {
    /// Serves the destinations of a snapshot until all Secrets have been listed.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let restored = snapshot.destinations().map(|(allowed, destination)| {
            let restored = Restored {
                allowed: allowed.clone(),
                destination: Arc::new(destination),
            };
            (Arc::from(restored.destination.name.as_str()), restored)
        });
        self.shared.restored.store(Arc::new(restored.collect()));
        self.shared.announcer.announce(Change::All);
    }

    /// A list begins. What was known stays in use until it is complete.
    pub fn init(&mut self, namespace: &str) {
        self.listing.insert(namespace.to_owned(), HashMap::new());
    }

    /// A Secret of the list.
    pub fn init_apply(&mut self, secret: Secret) {
        let Some(claim) = self.claim(secret) else {
            return;
        };
        let listing = self.listing.entry(claim.secret.namespace.to_string());
        listing.or_default().insert(claim.secret.clone(), claim);
    }

    /// The list is complete: what it did not bring is gone.
    pub fn init_done(&mut self, namespace: &str) {
        let listed = self.listing.remove(namespace).unwrap_or_default();
        let is_gone = |name: &&SecretName| &*name.namespace == namespace && !listed.contains_key(*name);
        let gone: Vec<SecretName> = self.claims.keys().filter(is_gone).cloned().collect();
        let mut batch = Batch::new(&self.shared);
        for name in gone {
            batch.replace(self.claims.remove(&name), None);
        }
        for (name, claim) in listed {
            let before = self.claims.insert(name, Arc::clone(&claim));
            batch.replace(before, Some(claim));
        }
        let names = batch.publish();
        self.missing.remove(namespace);
        self.announce(names);
    }

    /// A Secret is new or has changed.
    pub fn apply(&mut self, secret: Secret) {
        let name = parse::name_of(&secret);
        match self.claim(secret) {
            Some(claim) => {
                let before = self.claims.insert(name, Arc::clone(&claim));
                self.replace(before, Some(claim));
            }
            None => self.remove(&name),
        }
    }

    /// A Secret is gone, or its label is.
    pub fn delete(&mut self, mut secret: Secret) {
        drop(DataKeys::take(&mut secret));
        self.remove(&parse::name_of(&secret));
    }

    fn remove(&mut self, name: &SecretName) {
        let before = self.claims.remove(name);
        self.replace(before, None);
    }

    fn replace(&mut self, before: Option<Arc<Claim>>, now: Option<Arc<Claim>>) {
        let mut batch = Batch::new(&self.shared);
        batch.replace(before, now);
        let names = batch.publish();
        self.announce(names);
    }

    fn announce(&mut self, names: BTreeSet<Arc<str>>) {
        let announcer = &self.shared.announcer;
        if self.missing.is_empty() && !self.shared.loaded.swap(true, Ordering::AcqRel) {
            self.shared.restored.store(Arc::default());
            announcer.announce(Change::All);
        } else {
            announcer.announce(Change::Names(names));
        }
    }

    /// What the Secret claims, unless it is none of ours. One that did not change is not read again.
    fn claim(&self, mut secret: Secret) -> Option<Arc<Claim>> {
        let name = parse::name_of(&secret);
        let labels = secret.metadata.labels.as_ref();
        let is_labelled = labels.is_some_and(|labels| labels.contains_key(labels::DESTINATION));
        if !is_labelled || !self.namespaces.contains(&*name.namespace) {
            drop(DataKeys::take(&mut secret));
            return None;
        }
        let before = self.claims.get(&name);
        if let Some(before) = before.filter(|before| before.generation == parse::generation_of(&secret)) {
            drop(DataKeys::take(&mut secret));
            return Some(Arc::clone(before));
        }
        let claim = parse::claim(secret, before.map(|before| &**before));
        log(&claim, before.map(|before| &**before));
        Some(Arc::new(claim))
    }
}

/// Says once what is wrong with a Secret.
fn log(claim: &Claim, before: Option<&Claim>) {
    if before.is_some_and(|before| claim.reads_like(before)) {
        return;
    }
    let (secret, destination) = (&claim.secret, &*claim.destination);
    if let Err(refused) = &claim.outcome {
        warn!(%secret, destination, problems = %refused, "Secret is no usable destination");
        refused
            .warnings
            .iter()
            .for_each(|warning| warn!(%secret, destination, "{warning}"));
    } else if before.is_some_and(|before| before.outcome.is_err()) {
        info!(%secret, destination, "Secret is a usable destination again");
    }
    claim
        .warnings
        .iter()
        .for_each(|warning| warn!(%secret, destination, "{warning}"));
}

/// Changes that become visible together, as far as they are in one shard.
struct Batch<'a> {
    shared: &'a Shared,
    shards: BTreeMap<usize, Shard>,
    names: HashSet<Arc<str>>,
}

impl<'a> Batch<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            shards: BTreeMap::new(),
            names: HashSet::new(),
        }
    }

    fn replace(&mut self, before: Option<Arc<Claim>>, now: Option<Arc<Claim>>) {
        if let (Some(before), Some(now)) = (&before, &now)
            && Arc::ptr_eq(before, now)
        {
            return;
        }
        if let Some(before) = before {
            self.claims(&before.destination)
                .retain(|claim| claim.secret != before.secret);
        }
        if let Some(now) = now {
            let claims = self.claims(&now.destination);
            let place = claims.partition_point(|claim| claim.precedence(&now).is_lt());
            claims.insert(place, now);
        }
    }

    fn claims(&mut self, destination: &Arc<str>) -> &mut Claims {
        self.names.insert(Arc::clone(destination));
        let index = self.shared.index(destination);
        let shards = &self.shared.shards;
        let shard = self
            .shards
            .entry(index)
            .or_insert_with(|| Shard::clone(&shards[index].load()));
        shard.entry(Arc::clone(destination)).or_default()
    }

    /// The names that are answered differently from now on.
    fn publish(mut self) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        for (index, mut shard) in std::mem::take(&mut self.shards) {
            shard.retain(|_, claims| !claims.is_empty());
            let before = self.shared.shards[index].swap(Arc::new(shard));
            let now = self.shared.shards[index].load();
            for name in self.names.iter().filter(|name| self.shared.index(name) == index) {
                let (before, now) = (before.get(name), now.get(name));
                report_taken(before, now);
                if !answers_alike(before, now) {
                    changed.insert(Arc::clone(name));
                }
            }
        }
        changed
    }
}

fn answers_alike(before: Option<&Claims>, now: Option<&Claims>) -> bool {
    let first = |claims: Option<&Claims>| claims.and_then(|claims| claims.first()).cloned();
    match (first(before), first(now)) {
        (Some(before), Some(now)) => before.answers_like(&now),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Two Secrets that want one name are a mistake, and which one wins may surprise.
fn report_taken(before: Option<&Claims>, now: Option<&Claims>) {
    let taken = |claims: Option<&Claims>| {
        let reports = claims.map(Report::of).unwrap_or_default();
        let is_taken = |report: &Report| matches!(report.trouble, Trouble::Taken(_));
        reports.into_iter().filter(is_taken).collect::<Vec<_>>()
    };
    let before = taken(before);
    for report in taken(now) {
        if !before.contains(&report)
            && let Trouble::Taken(winner) = &report.trouble
        {
            let (secret, destination) = (&report.secret, &*report.destination);
            warn!(%secret, destination, %winner, "Secret is not used, because an older one has the same name");
        }
    }
}
