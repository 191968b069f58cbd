//! What the manager counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::cluster::Error;

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(super) leader: Gauge,
    pub(super) waiting: Gauge,
    looked: Family<ResultLabel, Counter>,
    writes: Family<KindLabel, Counter>,
    errors: Family<CodeLabel, Counter>,
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    ServiceCreate,
    ServiceUpdate,
    ServiceDelete,
    Status,
    Event,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::ServiceCreate,
        Self::ServiceUpdate,
        Self::ServiceDelete,
        Self::Status,
        Self::Event,
    ];

    fn label(self) -> KindLabel {
        let kind = match self {
            Self::ServiceCreate => "service_create",
            Self::ServiceUpdate => "service_update",
            Self::ServiceDelete => "service_delete",
            Self::Status => "status",
            Self::Event => "event",
        };
        KindLabel { kind }
    }
}

/// How a look at a name ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked {
    Nothing,
    Written,
    Failed,
}

impl Looked {
    const ALL: [Self; 3] = [Self::Nothing, Self::Written, Self::Failed];

    fn label(self) -> ResultLabel {
        let result = match self {
            Self::Nothing => "nothing",
            Self::Written => "written",
            Self::Failed => "failed",
        };
        ResultLabel { result }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "manager_leader",
            "Whether this manager is the one that writes",
            self.leader.clone(),
        );
        registry.register(
            "manager_queue",
            "Names of Destination CRs that are to be looked at",
            self.waiting.clone(),
        );
        registry.register(
            "manager_reconciles",
            "Looks at a name of Destination CRs, by what came of them",
            self.looked.clone(),
        );
        registry.register(
            "manager_writes",
            "Writes to the API server, without renewals of the lease",
            self.writes.clone(),
        );
        registry.register(
            "manager_errors",
            "Writes that did not succeed, by the status that the API server answered with",
            self.errors.clone(),
        );
        for kind in Kind::ALL {
            drop(self.writes.get_or_create(&kind.label()));
        }
        for result in Looked::ALL {
            drop(self.looked.get_or_create(&result.label()));
        }
    }

    pub(super) fn wrote(&self, kind: Kind) {
        self.writes.get_or_create(&kind.label()).inc();
    }

    pub(super) fn looked(&self, result: Looked) {
        self.looked.get_or_create(&result.label()).inc();
    }

    pub(super) fn failed(&self, error: &Error) {
        let code = error.code().map_or("none".to_owned(), |code| code.to_string());
        self.errors.get_or_create(&CodeLabel { code }).inc();
    }
}
