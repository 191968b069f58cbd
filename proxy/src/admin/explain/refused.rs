//! Why somebody was not let in, and what to do about each reason.

use super::findings::{ago, list};
use super::{Finding, Reason, Refusal, Report};

impl Report {
    pub(super) fn refused(&self) -> impl Iterator<Item = Finding> + '_ {
        self.refusals.iter().map(|refusal| {
            let text = described(refusal);
            Finding::warning("refused", text).remedy(self.remedy(refusal.reason))
        })
    }

    fn remedy(&self, reason: Reason) -> String {
        match reason {
            Reason::OtherNamespace => {
                "whoever may connect from other namespaces needs `spec.accessControl.scope: clusterWide`".into()
            }
            Reason::NodeProcess => {
                "what is no pod has no namespace: connect from a pod, or say `spec.accessControl.scope: clusterWide`"
                    .into()
            }
            Reason::UnknownPod => "a pod that has just begun is known in a moment: connect again; if that does not help, \
                                   see what this pod logs about the watch of pods"
                .into(),
            Reason::SharedAddress => {
                "pods in the network of their node share its address, and here only the hook of their own node can tell \
                 them apart: see whether it works there, or say `spec.accessControl.scope: clusterWide`"
                    .into()
            }
            Reason::UnknownAddress => {
                "no pod has the address that it came from: see whether something on the way replaces addresses, or say \
                 `spec.accessControl.scope: clusterWide` for callers outside of pods"
                    .into()
            }
            Reason::Port => format!("connect to {}", self.ports()),
            Reason::Udp => format!("only TCP is proxied: connect by TCP to {}", self.ports()),
            Reason::PerSource => "the caller has as many connections open as one pod may have: it must close or reuse them; \
                                  `config.tcp.maxConnectionsPerPod` is the limit, which is lower where memory is short"
                .into(),
            Reason::Total => "as many connections are open as fit into the memory limit of this pod: raise it, or see \
                              `transparent-proxy connections` for who keeps so many"
                .into(),
            Reason::TargetPortOfTwo => {
                "another Service has the same target port: the manager gives the younger one another; if it does not, see \
                 what it logs"
                    .into()
            }
        }
    }

    fn ports(&self) -> String {
        let ports: Vec<String> = self
            .services
            .iter()
            .map(|service| service.port.to_string())
            .collect();
        match &ports[..] {
            [] => "the port of its Service".into(),
            ports => format!("port {}", list(ports)),
        }
    }
}

fn described(refusal: &Refusal) -> String {
    let times = match refusal.times {
        0 | 1 => String::new(),
        times => format!(" {times} times, at last"),
    };
    let how = match refusal.reason {
        _ if refusal.at_connect => "connect(2) failed",
        Reason::PerSource | Reason::Total => "the connection was closed at once",
        _ => "the connection was reset",
    };
    format!(
        "{} was refused{times} {} ago: {}; {how}",
        refusal.who,
        ago(refusal.seconds_ago),
        refusal.reason.described()
    )
}

impl Reason {
    fn described(self) -> &'static str {
        match self {
            Self::OtherNamespace => "its namespace is another one (other_namespace)",
            Self::NodeProcess => "it is no pod (node_process)",
            Self::UnknownPod => "its pod is not known (unknown_pod)",
            Self::SharedAddress => "others have the same address (shared_address)",
            Self::UnknownAddress => "its address is not known (unknown_address)",
            Self::Port => "nothing is served at the port (port)",
            Self::Udp => "it does not speak TCP (udp)",
            Self::PerSource => "it has too many connections open (per_source)",
            Self::Total => "too many connections are open (total)",
            Self::TargetPortOfTwo => "it may have meant another Service (target_port_of_two)",
        }
    }
}
