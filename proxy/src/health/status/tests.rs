use serde_json::{Value, json};

use super::*;
use crate::admin::probes::Hook;

fn pod(part: Part, node: &str, ready: bool) -> Arc<Pod> {
    let owner = match part {
        Part::Manager => "sap-transp-proxy-manager",
        Part::Agent => "sap-transp-proxy",
        Part::Fallback => "sap-transp-proxy-fallback",
    };
    Arc::new(Pod {
        part,
        owner: owner.into(),
        node: Some(node.into()),
        name: format!("{owner}-{node}"),
        ready,
        address: None,
    })
}

fn hook(node: &str, state: HookState) -> NodeHook {
    NodeHook {
        node: node.into(),
        place: format!("sap-transp-proxy/{node}"),
        hook: Some(Hook {
            state,
            cgroup: None,
            reason: None,
        }),
        problems: Vec::new(),
    }
}

const BOTH: Used = Used {
    http: true,
    tcp: true,
};

fn status(pods: &[Arc<Pod>], hooks: &NodeHooks, used: Used) -> Value {
    serde_json::to_value(Status::of(pods, None, hooks, used, None)).unwrap()
}

fn healthy() -> Vec<Arc<Pod>> {
    vec![
        pod(Part::Manager, "node-1", true),
        pod(Part::Agent, "node-1", true),
        pod(Part::Agent, "node-2", true),
        pod(Part::Fallback, "node-2", true),
    ]
}

fn without(pods: Vec<Arc<Pod>>, fits: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
    let unready = |pod: Arc<Pod>| {
        if fits(&pod) {
            Arc::new(Pod {
                ready: false,
                ..Arc::unwrap_or_clone(pod)
            })
        } else {
            pod
        }
    };
    pods.into_iter().map(unready).collect()
}

#[test]
fn all_is_well() {
    let hooks = vec![hook("node-1", HookState::Working), hook("node-2", HookState::Off)];
    assert_eq!(
        status(&healthy(), &hooks, BOTH),
        json!({
            "Status": "ok",
            "Components": {
                "sap-transp-proxy-http": {"Status": "ok"},
                "sap-transp-proxy-tcp": {"Status": "ok"},
                "sap-transp-proxy-manager": {"Status": "ok"},
            },
        })
    );
}

#[test]
fn some_agents_that_are_not_ready_are_a_warning_with_their_nodes() {
    let pods = without(healthy(), |pod| pod.node.as_deref() == Some("node-2"));
    let message = "2 of 3 pods not ready: sap-transp-proxy/node-2, sap-transp-proxy-fallback/node-2";
    assert_eq!(
        status(&pods, &vec![], BOTH),
        json!({
            "Status": "warning",
            "Components": {
                "sap-transp-proxy-http": {"Status": "warning", "Message": message},
                "sap-transp-proxy-tcp": {
                    "Status": "warning", "Message": message,
                    "AffectedDeployments": ["sap-transp-proxy-fallback/node-2", "sap-transp-proxy/node-2"],
                },
                "sap-transp-proxy-manager": {"Status": "ok"},
            },
        })
    );
}

#[test]
fn a_plane_nobody_uses_is_ok_and_does_not_count() {
    let pods = without(healthy(), |pod| pod.part != Part::Manager);
    let all = status(
        &pods,
        &vec![],
        Used {
            http: true,
            tcp: false,
        },
    );
    assert_eq!(all["Components"]["sap-transp-proxy-http"]["Status"], "critical");
    assert_eq!(all["Components"]["sap-transp-proxy-tcp"], json!({"Status": "ok"}));
    assert_eq!(all["Status"], "warning");
    let all = status(&pods, &vec![], Used::default());
    assert_eq!(all["Status"], "ok");
}

#[test]
fn where_everything_is_critical_the_whole_is() {
    let pods = without(healthy(), |_| true);
    let all = status(&pods, &vec![], BOTH);
    assert_eq!(all["Status"], "critical");
    assert_eq!(
        all["Components"]["sap-transp-proxy-tcp"]["Message"],
        "none of 3 proxy pods is ready"
    );
    let nothing = status(&[], &vec![], Used::default());
    assert_eq!(nothing["Status"], "critical");
    assert_eq!(
        nothing["Components"]["sap-transp-proxy-manager"],
        json!({"Status": "critical", "Message": "there is no manager pod"})
    );
}

#[test]
fn a_manager_that_is_away_is_no_more_than_a_warning_while_traffic_goes_on() {
    let pods = without(healthy(), |pod| pod.part == Part::Manager);
    assert_eq!(status(&pods, &vec![], BOTH)["Status"], "warning");
}

#[test]
fn hooks_that_failed_are_a_warning_with_their_nodes() {
    let hooks = vec![
        hook("node-2", HookState::Failed),
        hook("node-1", HookState::Failed),
        hook("node-3", HookState::Working),
        NodeHook {
            node: "node-4".into(),
            place: "sap-transp-proxy/node-4".into(),
            hook: None,
            problems: Vec::new(),
        },
    ];
    let all = status(&healthy(), &hooks, BOTH);
    assert_eq!(all["Status"], "warning");
    assert_eq!(
        all["Components"]["sap-transp-proxy-tcp"],
        json!({
            "Status": "warning",
            "Message": "connections are not redirected by the hook on node-1, node-2, they take the detour of the Services",
            "AffectedDeployments": ["sap-transp-proxy/node-1", "sap-transp-proxy/node-2"],
        })
    );
}

#[test]
fn nodes_without_an_agent_are_a_warning() {
    let told = |pods: &[Arc<Pod>], wanted| {
        serde_json::to_value(Status::of(pods, wanted, &vec![], BOTH, None)).unwrap()
    };
    for wanted in [None, Some(1), Some(2)] {
        assert_eq!(told(&healthy(), wanted)["Status"], "ok", "{wanted:?}");
    }
    // While they are replaced there are two on a node.
    let mut pods = healthy();
    pods.push(pod(Part::Agent, "node-2", true));
    let all = told(&pods, Some(3));
    assert_eq!(all["Status"], "warning");
    let message = "1 of 3 nodes have no agent pod, so their connections take the detour of the Services";
    assert_eq!(
        all["Components"]["sap-transp-proxy-tcp"],
        json!({"Status": "warning", "Message": message, "AffectedDeployments": ["sap-transp-proxy"]})
    );
    pods.retain(|pod| pod.part != Part::Agent);
    for (wanted, message) in [
        (3, "there is no agent pod, and 3 nodes want one"),
        (0, "there is no agent pod, since no node fits them"),
    ] {
        let all = told(&pods, Some(wanted));
        assert_eq!(all["Components"]["sap-transp-proxy-http"]["Message"], message);
        assert_eq!(all["Status"], "warning");
    }
    assert_eq!(told(&pods, None)["Status"], "ok");
}

#[test]
fn hooks_that_are_not_known_are_told_and_make_nothing_worse() {
    let mut hooks = vec![
        hook("node-1", HookState::Working),
        hook("node-2", HookState::Working),
    ];
    hooks[1].hook = None;
    let told = status(&healthy(), &hooks, BOTH);
    assert_eq!(told["Status"], "ok");
    for plane in ["sap-transp-proxy-http", "sap-transp-proxy-tcp"] {
        assert_eq!(
            told["Components"][plane],
            json!({
                "Status": "ok",
                "Message": "it is not known how the hook is on node-2, whose agents do not answer",
            })
        );
    }
    let pods = without(healthy(), |pod| {
        pod.part == Part::Agent && pod.node.as_deref() == Some("node-2")
    });
    let told = status(&pods, &hooks, BOTH).to_string();
    assert!(
        !told.contains("not known"),
        "it is told that it is not ready: {told}"
    );
}

#[test]
fn what_may_be_old_is_told() {
    let silence = Some(Duration::from_mins(12));
    let all = serde_json::to_value(Status::of(&healthy(), None, &vec![], BOTH, silence)).unwrap();
    assert_eq!(all["Status"], "warning");
    assert_eq!(
        all["Components"]["sap-transp-proxy-manager"]["Message"],
        "the API server has not been heard of for 12 min; this is what was known then"
    );
}

#[test]
fn long_lists_are_cut() {
    let pods: Vec<_> = (1..=30)
        .map(|n| pod(Part::Agent, &format!("node-{n:02}"), n == 1))
        .chain([pod(Part::Manager, "node-1", true)])
        .collect();
    let all = status(&pods, &vec![], BOTH);
    let message = all["Components"]["sap-transp-proxy-http"]["Message"]
        .as_str()
        .unwrap();
    assert!(
        message.ends_with("sap-transp-proxy/node-21 and 9 more"),
        "{message}"
    );
    let places = all["Components"]["sap-transp-proxy-tcp"]["AffectedDeployments"].as_array();
    assert_eq!(places.unwrap().len(), 29, "for programs they are complete");
}

#[test]
fn what_a_service_speaks_says_which_plane_is_used() {
    let plane = |port: Value| {
        let service = json!({"metadata": {"name": "a"}, "spec": {"ports": [port]}});
        Plane::of(&serde_json::from_value(service).unwrap())
    };
    assert_eq!(plane(json!({"name": "http", "appProtocol": "http"})), Plane::Http);
    assert_eq!(plane(json!({"name": "http"})), Plane::Http);
    assert_eq!(plane(json!({"name": "tcp", "appProtocol": "tcp"})), Plane::Tcp);
    assert_eq!(plane(json!({"name": "ldap"})), Plane::Tcp);
}

#[test]
fn what_a_pod_tells_of_its_watches_is_a_warning_that_names_the_pod() {
    let mut hooks = vec![hook("node-1", HookState::Working), hook("node-2", HookState::Off)];
    hooks[1].problems = vec!["watch of Secrets: forbidden".into()];
    let message = "not everything is in order at sap-transp-proxy/node-2 (watch of Secrets: forbidden)";
    let all = status(&healthy(), &hooks, BOTH);
    assert_eq!(all["Status"], "warning");
    assert_eq!(
        all["Components"]["sap-transp-proxy-tcp"],
        json!({"Status": "warning", "Message": message, "AffectedDeployments": ["sap-transp-proxy/node-2"]})
    );
    assert_eq!(all["Components"]["sap-transp-proxy-http"]["Message"], message);
}
