use super::*;
use crate::admin::probes::HookState;

/// Everything as it should be.
fn report() -> Report {
    Report {
        namespace: "shop".into(),
        name: "my-dest".into(),
        agent: Agent {
            node: "node-1".into(),
            pod: "sap-transp-proxy-abcde".into(),
            fallback: false,
            hook: Hook {
                state: HookState::Working,
                cgroup: Some("/host/cgroup/kubepods".into()),
                reason: None,
            },
            self_test: Some(SelfTest {
                seconds_ago: 42,
                error: None,
            }),
            api_server: ApiServer {
                listed: true,
                silent_seconds: 12,
                problem: None,
            },
            namespace_label: None,
        },
        resource: Some(Resource {
            destination: "backend".into(),
            scope: Scope::Namespaced,
            broken: None,
        }),
        same_name_in: vec![],
        services: vec![service("my-dest")],
        destination: Destination::Found {
            target: "https://backend.example, BasicAuthentication".into(),
            source: "the Secret tp/backend".into(),
            warnings: vec![],
        },
        callers: vec![caller("web-1", true)],
        refusals: vec![],
        counters: Counters {
            connections: 7,
            open_connections: 1,
            requests: 20,
            errors: 0,
            refused: 0,
            waits: 0,
        },
        limits: Some(Limits {
            open: 3,
            at_most: Some(1000),
        }),
        times: Times {
            caller: Some(took(0, 2)),
            credentials: Some(took(90, 120)),
            connect: Some(took(4, 9)),
            answer: Some(took(35, 180)),
        },
    }
}

fn took(average_milliseconds: u64, longest_milliseconds: u64) -> Took {
    Took {
        count: 20,
        average_milliseconds,
        longest_milliseconds,
    }
}

fn service(name: &str) -> Service {
    let entry = |address: &str, proxy: &str| KernelEntry {
        virtual_address: address.parse().unwrap(),
        redirected_to: Some(proxy.parse().unwrap()),
        namespace_number: 3,
    };
    Service {
        name: name.into(),
        addresses: vec!["10.96.0.7".parse().unwrap(), "fd00:96::7".parse().unwrap()],
        port: 80,
        target_port: 10001,
        protocol: "http".into(),
        listener: Listener::Open,
        kernel: vec![
            entry("10.96.0.7:80", "10.244.1.7:10001"),
            entry("[fd00:96::7]:80", "[fd00:244:1::7]:10001"),
        ],
    }
}

fn caller(pod: &str, known_to_kernel: bool) -> Caller {
    Caller {
        namespace: "shop".into(),
        pod: pod.into(),
        known_to_kernel,
    }
}

/// The one finding about a step.
fn about(step: &str, report: &Report) -> String {
    let found: Vec<Finding> = report.findings();
    let about: Vec<&Finding> = found.iter().filter(|finding| finding.step == step).collect();
    let [finding] = about[..] else {
        panic!("{step} in {found:#?}")
    };
    let remedy = finding.remedy.as_deref().unwrap_or("nothing to do");
    format!("{:?}: {}\n-> {remedy}", finding.state, finding.text)
}

#[test]
fn all_is_well() {
    assert_eq!(report().verdict(), State::Ok);
    insta::assert_snapshot!(report().text(false));
}

#[test]
fn programs_get_the_same() {
    let json = report().json();
    assert_eq!(json["verdict"], "ok");
    assert_eq!(json["findings"][0]["step"], "Destination resource");
    let back: Report = serde_json::from_value(json["report"].clone()).unwrap();
    assert_eq!(back, report());
}

#[test]
fn colours_only_where_they_are_wanted() {
    assert!(report().text(true).contains("\x1b[32m"));
    assert!(!report().text(false).contains('\x1b'));
}

#[test]
fn a_resource_that_is_not_understood_says_why() {
    let mut report = report();
    report.resource.as_mut().unwrap().broken = Some("unknown variant `galaxy`".into());
    report.destination = Destination::Unknown;
    assert!(about("Destination resource", &report).contains("Failed: it is not understood"));
    assert!(about("Destination resource", &report).contains("galaxy"));
    assert_eq!(report.findings().len(), 1, "nothing else is known of it");
}

#[test]
fn there_is_no_such_resource() {
    let report = Report {
        resource: None,
        services: vec![],
        destination: Destination::Unknown,
        same_name_in: vec!["bank".into()],
        ..report()
    };
    assert_eq!(report.verdict(), State::Failed);
    insta::assert_snapshot!(report.text(false));
}

#[test]
fn there_is_no_service() {
    let report = Report {
        services: vec![],
        ..report()
    };
    insta::assert_snapshot!(about("Service", &report));
}

#[test]
fn there_is_no_service_since_the_namespace_is_perhaps_not_managed() {
    let mut report = Report {
        services: vec![],
        ..report()
    };
    let label = "transparent-proxy.connectivity.api.sap/namespace=tp";
    report.agent.namespace_label = Some(label.into());
    insta::assert_snapshot!(about("Service", &report));
}

#[test]
fn a_service_per_tenant_is_listed() {
    let report = Report {
        services: vec![service("my-dest-acme"), service("my-dest-globex")],
        ..report()
    };
    let findings = report.findings();
    let services = findings.iter().find(|finding| finding.step == "Service").unwrap();
    assert!(services.text.contains("my-dest-acme (http)") && services.text.contains("my-dest-globex (http)"));
    assert_eq!(
        findings
            .iter()
            .filter(|finding| finding.step == "redirection")
            .count(),
        4
    );
}

#[test]
fn nobody_listens() {
    let mut report = report();
    report.services[0].listener = Listener::Failed {
        reason: "Address already in use (os error 98)".into(),
    };
    insta::assert_snapshot!(about("listener", &report));
}

#[test]
fn the_hook_is_not_there_for_some_reason() {
    let hook = |state, reason: Option<&str>| Hook {
        state,
        cgroup: Some("/host/cgroup/kubepods".into()),
        reason: reason.map(str::to_owned),
    };
    let test = |seconds_ago, error: Option<&str>| {
        Some(SelfTest {
            seconds_ago,
            error: error.map(str::to_owned),
        })
    };
    let cases = [
        (hook(HookState::Off, None), None, false),
        (hook(HookState::Off, None), None, true),
        (
            hook(
                HookState::Failed,
                Some("cil_sock4_connect is attached exclusively"),
            ),
            None,
            false,
        ),
        (
            hook(HookState::Failed, None),
            test(3, Some("nothing arrived within 1 s")),
            false,
        ),
        (
            hook(HookState::Working, None),
            test(3, Some("nothing arrived within 1 s")),
            false,
        ),
        (hook(HookState::Working, None), test(400, None), false),
        (hook(HookState::Working, None), None, false),
    ];
    let told = cases.map(|(hook, self_test, fallback)| {
        let mut report = report();
        report.agent = Agent {
            fallback,
            hook,
            self_test,
            ..report.agent
        };
        about("hook", &report)
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn the_kernel_does_not_know_the_address() {
    let mut report = report();
    report.services[0].addresses.truncate(1);
    report.services[0].kernel[0].redirected_to = None;
    let absent = about("redirection", &report);
    report.services[0].kernel.clear();
    assert_eq!(about("redirection", &report), absent);
    insta::assert_snapshot!(absent);
}

#[test]
fn the_kernel_leads_elsewhere() {
    let mut report = report();
    report.services[0].addresses.truncate(1);
    report.services[0].kernel[0].redirected_to = Some("10.244.1.7:10002".parse().unwrap());
    insta::assert_snapshot!(about("redirection", &report));
}

#[test]
fn without_a_hook_nobody_asks_the_kernel() {
    let mut report = report();
    report.agent.hook.state = HookState::Off;
    report.services[0].kernel.clear();
    assert!(
        report
            .findings()
            .iter()
            .all(|finding| finding.step != "redirection")
    );
    assert_eq!(report.verdict(), State::Ok);
}

#[test]
fn the_scope_says_who_may_connect() {
    let nobody = Report {
        callers: vec![],
        ..report()
    };
    let unknown = Report {
        callers: (1..=7).map(|n| caller(&format!("web-{n}"), n > 1)).collect(),
        ..report()
    };
    let everybody = Report {
        resource: Some(Resource {
            destination: "backend".into(),
            scope: Scope::ClusterWide,
            broken: None,
        }),
        ..report()
    };
    let told = [nobody, unknown, everybody].map(|report| about("scope", &report));
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn the_destination_is_why() {
    let source = || "the Secret tp/backend".to_owned();
    let cases = [
        Destination::Found {
            target: "https://backend.example, NoAuthentication".into(),
            source: source(),
            warnings: vec!["the property Foo is not known".into()],
        },
        Destination::Gateway,
        Destination::NotFound {
            searched: "the labelled Secrets of the namespaces tp, shop".into(),
        },
        Destination::Invalid {
            source: source(),
            problems: vec!["URL is missing".into(), "Type is missing".into()],
        },
        Destination::NotLoaded,
        Destination::NotSupported {
            what: "destination chains are not supported".into(),
        },
    ];
    let told = cases.map(|destination| {
        about(
            "destination",
            &Report {
                destination,
                ..report()
            },
        )
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn each_reason_of_a_refusal_has_its_remedy() {
    use Reason::{
        NodeProcess, OtherNamespace, PerSource, Port, SharedAddress, TargetPortOfTwo, Total, Udp,
        UnknownAddress, UnknownPod,
    };
    let told = [
        (OtherNamespace, "bank/client-1", 12, true),
        (NodeProcess, "a process of the node", 1, false),
        (UnknownPod, "a pod that the API server does not know", 1, false),
        (SharedAddress, "somebody in a network of several", 1, false),
        (UnknownAddress, "an unknown address", 1, false),
        (Port, "shop/web-1", 1, true),
        (Udp, "shop/web-1", 1, true),
        (PerSource, "shop/web-1", 300, false),
        (Total, "shop/web-1", 1, false),
        (TargetPortOfTwo, "shop/web-1", 1, false),
    ]
    .map(|(reason, who, times, at_connect)| {
        let mut report = report();
        report.refusals = vec![Refusal {
            seconds_ago: 30,
            who: who.into(),
            reason,
            times,
            at_connect,
        }];
        assert_eq!(report.verdict(), State::Warning);
        about("refused", &report)
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn the_slow_step_is_named() {
    let slow = Some(took(1200, 4000));
    let fast = report().times;
    let told = [
        Times { caller: slow, ..fast },
        Times {
            credentials: slow,
            ..fast
        },
        Times {
            connect: slow,
            ..fast
        },
        Times { answer: slow, ..fast },
        Times {
            answer: slow,
            ..Times::default()
        },
    ]
    .map(|times| about("speed", &Report { times, ..report() }));
    insta::assert_snapshot!(told.join("\n\n"));
    let unused = Report {
        times: Times::default(),
        ..report()
    };
    assert!(unused.findings().iter().all(|finding| finding.step != "speed"));
}

#[test]
fn there_was_or_is_no_room() {
    let told = [(5, 3), (0, 1000)].map(|(waits, open)| {
        let mut report = report();
        report.counters.waits = waits;
        report.limits = Some(Limits {
            open,
            at_most: Some(1000),
        });
        about("room", &report)
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn what_is_known_may_be_old() {
    let told = [
        (false, 3, Some("403: destinations is forbidden")),
        (true, 300, None),
        (true, 9000, Some("timeout")),
    ]
    .map(|(listed, silent_seconds, problem)| {
        let mut report = report();
        report.agent.api_server = ApiServer {
            listed,
            silent_seconds,
            problem: problem.map(str::to_owned),
        };
        about("API server", &report)
    });
    insta::assert_snapshot!(told.join("\n\n"));
}
