//! Many objects.

use futures_util::{StreamExt as _, stream};
use kube::api::{Api, PostParams};
use serde_json::Value;

/// Set to anything, tests make large clusters, which takes minutes.
const VARIABLE: &str = "LARGE_CLUSTER";

/// So many, or else a twentieth of them.
pub fn many(full: usize) -> usize {
    if std::env::var_os(VARIABLE).is_some() {
        full
    } else {
        full / 20
    }
}

/// Objects that are made at a time.
const AT_ONCE: usize = 32;

/// Makes so many objects; `object` gives each by its number.
pub async fn make<K>(api: &Api<K>, count: usize, object: impl Fn(usize) -> Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| {
            let object: K = serde_json::from_value(object(number)).unwrap();
            async move {
                let made = api.create(&PostParams::default(), &object).await;
                made.expect("it is made");
            }
        })
        .await;
}
