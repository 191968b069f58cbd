//! What a new resource costs among many. `cargo xtask bench scale` runs it with more of them.

use std::time::Duration;

use serde_json::{Value, json};
use tests::memory::Memory;
use tokio::time::Instant;

use super::live::now;
use crate::harness::destination::Destination;
use crate::harness::installation::{Installation, ProxyPod};
use crate::harness::pod::Pod;
use crate::harness::wait::eventually;
use crate::harness::world::{PASSWORD, USER, World};

/// Numbers of resources, ascending, separated by commas.
const SIZES_VARIABLE: &str = "SCALE_SIZES";
const SIZES: &str = "100";
/// Of new resources at each size.
const SAMPLES_VARIABLE: &str = "SCALE_SAMPLES";
const SAMPLES: &str = "20";

const NAMESPACE: &str = "scale";
/// Label of their Secrets.
const MANY: &str = "many";
/// Up to this size, the next two are promised.
const PROMISED: usize = 1_000;
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// In kB.
const MEMORY: u64 = 64 << 10;

/// Objects in one `kubectl create`.
const AT_ONCE: usize = 500;
const ALL_AVAILABLE_WITHIN: Duration = Duration::from_mins(15);

/// From the start of `kubectl apply` to the first answer, and memory.
pub fn a_new_resource_among_many_is_served_soon_and_costs_little(world: &World) {
    let list = variable(SIZES_VARIABLE, SIZES);
    let sizes = list
        .split(',')
        .map(|size| size.parse().expect("SCALE_SIZES has numbers"));
    let samples: usize = variable(SAMPLES_VARIABLE, SAMPLES)
        .parse()
        .expect("SCALE_SAMPLES is a number");
    let many = Many::start(world);
    println!(
        "{:>9}  {:>10}  {:>24}  {:>28}",
        "resources", "all usable", "new one answers (ms)", "memory (MiB)"
    );
    println!(
        "{:>9}  {:>10}  {:>6} {:>8} {:>8}  {:>8} {:>9} {:>9}",
        "", "after (s)", "median", "p99", "most", "agent", "fallback", "manager"
    );
    let mut made = 0;
    for size in sizes {
        let took = many.grow(made..size);
        made = size;
        let mut answers: Vec<Duration> = (0..samples).map(|number| many.answers(size, number)).collect();
        answers.sort_unstable();
        // Of fewer than a hundred that is the longest one.
        let at = |percent: usize| answers[(answers.len() * percent / 100).min(answers.len() - 1)];
        let [agent, fallback, manager] = many.memory();
        println!(
            "{size:>9}  {:>10.1}  {:>6} {:>8} {:>8}  {:>8.1} {:>9.1} {:>9.1}",
            took.as_secs_f64(),
            at(50).as_millis(),
            at(99).as_millis(),
            at(100).as_millis(),
            mib(agent),
            mib(fallback),
            mib(manager)
        );
        if size <= PROMISED {
            let late = answers.iter().filter(|answer| **answer > ANSWERED_WITHIN);
            // One of a hundred; where there are fewer, it may be among them.
            assert!(late.count() <= (samples / 100).max(1), "{answers:?}");
            for memory in [agent, fallback, manager] {
                assert!(memory <= MEMORY, "{memory} kB");
            }
        }
    }
    many.end();
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "sizes of processes are far below 2^52")]
fn mib(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}

/// A namespace with many resources and a pod on each node.
struct Many<'a> {
    world: &'a World,
    installation: Installation<'a>,
    pods: [Pod<'a>; 2],
}

impl<'a> Many<'a> {
    fn start(world: &'a World) -> Self {
        world.cluster.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        })]);
        let pods =
            ["node1", "node2"].map(|node| Pod::start(&world.cluster, NAMESPACE, &format!("on-{node}"), node));
        Self {
            world,
            installation: world.installation(),
            pods,
        }
    }

    /// Each resource has a Secret of its own, with a password.
    fn objects(&self, name: &str) -> [Value; 2] {
        let catalog = &self.world.servers().catalog;
        let destination = Destination::http(name, &catalog.url()).with_basic(USER, PASSWORD);
        let mut secret = destination.secret(&self.installation.namespace);
        secret["metadata"]["labels"][MANY] = "true".into();
        [secret, destination.resource(NAMESPACE)]
    }

    /// Makes those with these numbers; until all are available.
    fn grow(&self, numbers: std::ops::Range<usize>) -> Duration {
        let begin = Instant::now();
        let wanted = numbers.end;
        let numbers: Vec<usize> = numbers.collect();
        for chunk in numbers.chunks(AT_ONCE) {
            let objects = chunk
                .iter()
                .flat_map(|number| self.objects(&format!("many-{number}")));
            self.world.cluster.create(&objects.collect::<Vec<_>>());
        }
        eventually(ALL_AVAILABLE_WITHIN, "all are available", || {
            let path =
                "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Available')].status}{'\\n'}{end}";
            let list = self.world.cluster.kubectl(&[
                "get",
                "destinations",
                "--namespace",
                NAMESPACE,
                "--output",
                path,
            ]);
            match list.lines().filter(|line| *line == "True").count() {
                enough if enough >= wanted => Ok(()),
                others => Err(format!("{others} of {wanted}")),
            }
        });
        begin.elapsed()
    }

    /// Makes one more, waits for the first answer, and deletes it.
    fn answers(&self, size: usize, number: usize) -> Duration {
        let name = format!("new-{size}-{number}");
        let pod = &self.pods[number % 2];
        let asking = pod.pressure(&["-rate", "50", "-first", "30s", &format!("http://{name}/")]);
        let begin = now();
        self.world.cluster.apply(&self.objects(&name));
        let summary = asking.ends();
        assert!(summary.first_success > 0, "{name}: {summary:#?}");
        let kinds = [format!("destination/{name}"), format!("secret/{name}")];
        for (object, namespace) in kinds.iter().zip([NAMESPACE, &self.installation.namespace]) {
            self.world
                .cluster
                .kubectl(&["delete", object, "--namespace", namespace]);
        }
        Duration::from_millis(summary.first_success.saturating_sub(begin))
    }

    /// In kB, of the largest process each: agents, fallback, managers.
    fn memory(&self) -> [u64; 3] {
        let largest = |pods: Vec<ProxyPod>| {
            let resident = pods.iter().flat_map(|pod| self.installation.processes(pod));
            resident
                .map(|process| Memory::of(process.as_raw().unsigned_abs()).now)
                .max()
                .expect("it runs")
        };
        [
            largest(self.installation.agents()),
            largest(self.installation.fallback()),
            largest(self.installation.pods("manager")),
        ]
    }

    fn end(self) {
        // In one request; kubectl would delete one by one what a selector finds.
        let secrets = format!(
            "/api/v1/namespaces/{}/secrets?labelSelector={MANY}",
            self.installation.namespace
        );
        self.world.cluster.kubectl(&["delete", "--raw", &secrets]);
        self.world
            .cluster
            .kubectl(&["delete", "namespace", NAMESPACE, "--timeout", "10m"]);
    }
}
