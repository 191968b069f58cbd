//! How many connections an agent has at most: each plane for itself, so that TCP connections, which stay for
//! days, leave room for HTTP, and the other way round.

use std::sync::Arc;

use crate::accept::{Limits, LimitsConfig};
use crate::app::memory;
use crate::config::kubernetes::File;
use crate::resolve::directory::Speaks;

const PLANES: u64 = 2;

/// What an agent takes without connections: `cargo xtask bench scale` fails if it is more with 1,000
/// resources.
const BASE: u64 = 64 << 20;

/// An estimate of what a connection takes with all that belongs to it. HTTP: hyper's buffers and parser on both
/// legs, TLS to the target, the kernel's sockets, whose memory counts, too (see `sock` in the kernel's cgroup-v2
/// documentation). TCP: a task, and sockets; bytes on their way are in a block that a thread has only once.
const HTTP_CONNECTION: u64 = 64 << 10;
const TCP_CONNECTION: u64 = 16 << 10;

/// However little memory there is: an agent that serves nobody helps nobody.
const LEAST: usize = 100;

/// Of each plane.
pub(super) struct PlaneLimits {
    pub(super) http: Arc<Limits>,
    pub(super) tcp: Arc<Limits>,
}

/// What there is for both planes together.
struct Resources {
    descriptors: u64,
    /// `None` where it has no limit.
    memory: Option<u64>,
}

impl PlaneLimits {
    pub(super) fn new(settings: &File, descriptors: u64) -> Self {
        // Destinations may need that many listeners, if there is room for them at all.
        let ports = settings.target_ports.range();
        let listeners = u64::from(ports.end() - ports.start()) + 1;
        let resources = Resources {
            descriptors: descriptors - listeners.min(descriptors / 2),
            memory: memory::limit(),
        };
        let per_source = settings.limits.connections_per_pod;
        let limits = |connection| Limits::new(resources.share(per_source, connection));
        Self {
            http: limits(HTTP_CONNECTION),
            tcp: limits(TCP_CONNECTION),
        }
    }

    pub(super) fn of(&self, speaks: Speaks) -> &Arc<Limits> {
        match speaks {
            Speaks::Http => &self.http,
            Speaks::Tcp => &self.tcp,
        }
    }
}

impl Resources {
    /// Of one plane, whose connections take that much memory. Out of descriptors, connections wait; out of memory, the
    /// kernel would end the process with all of them, so those too many are refused.
    fn share(&self, per_source: usize, connection: u64) -> LimitsConfig {
        let config = LimitsConfig {
            per_source,
            ..LimitsConfig::default()
        }
        .within_descriptors(self.descriptors / PLANES);
        let Some(memory) = self.memory else {
            return config;
        };
        let fit = memory.saturating_sub(BASE) / PLANES / connection;
        let fit = usize::try_from(fit).unwrap_or(usize::MAX).max(LEAST);
        if config.pause_at.is_some_and(|pause_at| pause_at <= fit) {
            return config;
        }
        LimitsConfig {
            total: Some(fit),
            // One pod leaves something to the others, however little there is.
            per_source: per_source.min(fit.div_ceil(2)),
            ..config
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTORS: u64 = 2 * (128 + 3 * 1000);

    fn share(descriptors: u64, memory: Option<u64>) -> LimitsConfig {
        let resources = Resources { descriptors, memory };
        resources.share(4096, HTTP_CONNECTION)
    }

    #[test]
    fn each_plane_has_half_of_the_descriptors() {
        let without = share(DESCRIPTORS, None);
        assert_eq!((without.pause_at, without.total), (Some(1000), None));
        assert_eq!(share(DESCRIPTORS, Some(8 << 30)), without);
    }

    #[test]
    fn memory_counts_where_it_is_the_tighter_bound() {
        let tight = share(1 << 20, Some(BASE + (2 * 500 * HTTP_CONNECTION)));
        assert_eq!((tight.total, tight.per_source), (Some(500), 250));
        let hopeless = share(1 << 20, Some(1 << 20));
        assert_eq!((hopeless.total, hopeless.per_source), (Some(LEAST), LEAST / 2));
    }
}
