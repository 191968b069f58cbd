//! From the API server to the [`Writer`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::Writer;
use crate::api::labels;
use crate::cluster::watch::{Query, Sink, Task, Watches};

/// One watch per namespace, on labelled Secrets alone: those of the whole cluster may be many, and
/// are nobody's business. Only that of the installation must not be taken away.
pub fn feed<'a>(
    client: &Client,
    watches: &Watches,
    installation: &str,
    namespaces: impl IntoIterator<Item = &'a str>,
    writer: Writer,
) -> Vec<Task> {
    let writer = Arc::new(Mutex::new(writer));
    let watch = |namespace: &'a str| {
        let api = Api::<Secret>::namespaced(client.clone(), namespace);
        let mut query = Query::new(api, "secrets").labels(labels::DESTINATION);
        if namespace != installation {
            query = query.dispensable();
        }
        query.feed(
            watches,
            OfNamespace {
                namespace: namespace.to_owned(),
                writer: Arc::clone(&writer),
            },
        )
    };
    namespaces.into_iter().map(watch).collect()
}

struct OfNamespace {
    namespace: String,
    writer: Arc<Mutex<Writer>>,
}

impl OfNamespace {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink<Secret> for OfNamespace {
    fn begin(&mut self) {
        self.writer().init(&self.namespace);
    }

    fn listed(&mut self, secret: Secret) {
        self.writer().init_apply(secret);
    }

    fn finish(&mut self) {
        self.writer().init_done(&self.namespace);
    }

    fn applied(&mut self, secret: Secret) {
        self.writer().apply(secret);
    }

    fn deleted(&mut self, secret: Secret) {
        self.writer().delete(secret);
    }
}
