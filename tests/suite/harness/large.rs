//! Many objects, and what they cost a process.

use futures_util::{StreamExt as _, stream};
use kube::api::{Api, PostParams};
use serde_json::Value;

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

/// In kB: what is resident now, at most so far, and how much of it now is no part of files.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub most: u64,
    pub anonymous: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { now, most, anonymous } = self;
        write!(
            f,
            "{now} kB resident, {most} kB at most, {anonymous} kB no part of files"
        )
    }
}

impl Memory {
    pub fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let value = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Self {
            now: value("VmRSS:"),
            most: value("VmHWM:"),
            anonymous: value("RssAnon:"),
        }
    }
}
