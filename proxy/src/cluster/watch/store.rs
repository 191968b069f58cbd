//! What a watch knows: one writer, many readers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::Resource;
use tokio::sync::watch;

use super::Sink;

/// Namespace and name; the namespace is empty for objects that have none.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A difference in what is stored of one object. At least one side is there.
///
/// An object that was deleted and made again may be told as one change: compare what tells
/// them apart, such as the uid.
#[derive(Debug)]
pub struct Change<'a, T> {
    pub key: &'a Key,
    pub before: Option<&'a Arc<T>>,
    pub after: Option<&'a Arc<T>>,
}

type Objects<T> = HashMap<Key, Stored<T>>;

#[derive(Debug)]
struct Stored<T> {
    object: Arc<T>,
    /// The number of the last list that showed it, or of the one before the event that did.
    list: u32,
}

/// Reads what a watch knows. Clones read the same.
#[derive(Debug)]
pub struct Reader<T> {
    objects: Arc<RwLock<Objects<T>>>,
    synced: watch::Receiver<bool>,
    changes: watch::Receiver<()>,
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            objects: Arc::clone(&self.objects),
            synced: self.synced.clone(),
            changes: self.changes.clone(),
        }
    }
}

impl<T> Reader<T> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let objects = self.read();
        let stored = objects.get(&Key::new(namespace, name))?;
        Some(Arc::clone(&stored.object))
    }

    /// Everything, in no order.
    pub fn all(&self) -> Vec<(Key, Arc<T>)> {
        let objects = self.read();
        objects
            .iter()
            .map(|(key, stored)| (key.clone(), Arc::clone(&stored.object)))
            .collect()
    }

    /// Looks at everything; nothing changes meanwhile, so `look` must be quick.
    pub fn for_each(&self, mut look: impl FnMut(&Key, &Arc<T>)) {
        let objects = self.read();
        objects.iter().for_each(|(key, stored)| look(key, &stored.object));
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything was listed once.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Resolves when everything was listed once; never, where the watch was given up before that.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        if synced.wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when what is known satisfies `is_so`, which is asked again after each change.
    pub async fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            if is_so(self) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<T>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

type Keep<K, T> = Box<dyn Fn(K) -> Option<T> + Send>;
type Changed<T> = Box<dyn FnMut(Change<'_, T>) + Send>;

pub(super) struct Writer<K, T> {
    objects: Arc<RwLock<Objects<T>>>,
    synced: watch::Sender<bool>,
    changes: watch::Sender<()>,
    keep: Keep<K, T>,
    changed: Changed<T>,
    /// The number of the list that is under way, or of the last one.
    list: u32,
}

pub(super) fn new<K, T>(
    keep: impl Fn(K) -> Option<T> + Send + 'static,
    changed: impl FnMut(Change<'_, T>) + Send + 'static,
) -> (Reader<T>, Writer<K, T>) {
    let objects = Arc::default();
    let (synced, is_synced) = watch::channel(false);
    let (changes, changed_at) = watch::channel(());
    let reader = Reader {
        objects: Arc::clone(&objects),
        synced: is_synced,
        changes: changed_at,
    };
    let writer = Writer {
        objects,
        synced,
        changes,
        keep: Box::new(keep),
        changed: Box::new(changed),
        list: 0,
    };
    (reader, writer)
}

impl<K: Resource + 'static, T: PartialEq + Send + Sync + 'static> Sink<K> for Writer<K, T> {
    fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    fn listed(&mut self, object: K) {
        self.applied(object);
    }

    fn finish(&mut self) {
        let gone: Vec<Key> = {
            let objects = self.write();
            let unseen = objects.iter().filter(|(_, stored)| stored.list != self.list);
            unseen.map(|(key, _)| key.clone()).collect()
        };
        for key in gone {
            self.replace(&key, None);
        }
        self.synced
            .send_if_modified(|synced| !std::mem::replace(synced, true));
    }

    fn applied(&mut self, object: K) {
        let key = Key::of(&object);
        let kept = (self.keep)(object);
        self.replace(&key, kept);
    }

    fn deleted(&mut self, object: K) {
        self.replace(&Key::of(&object), None);
    }
}

impl<K, T: PartialEq> Writer<K, T> {
    fn replace(&mut self, key: &Key, after: Option<T>) {
        let before = self.seen(key);
        if before.as_deref() == after.as_ref() {
            return;
        }
        let after = after.map(Arc::new);
        match &after {
            Some(after) => {
                let stored = Stored {
                    object: Arc::clone(after),
                    list: self.list,
                };
                self.write().insert(key.clone(), stored);
            }
            None => drop(self.write().remove(key)),
        }
        (self.changed)(Change {
            key,
            before: before.as_ref(),
            after: after.as_ref(),
        });
        self.changes.send_replace(());
    }

    /// What is stored of an object that was just told of.
    fn seen(&self, key: &Key) -> Option<Arc<T>> {
        let mut objects = self.write();
        let stored = objects.get_mut(key)?;
        stored.list = self.list;
        Some(Arc::clone(&stored.object))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<T>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}
