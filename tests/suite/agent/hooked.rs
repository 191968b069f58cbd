//! With the hook: connections to virtual IPs.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_its_destination_and_a_foreign_one_is_refused_at_once() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.pod(&shop, "app", SHOP).await;
    let foreign = node.pod(&bank, "app", BANK).await;
    let agent = node.agent("agent-hooked").start();
    assert_eq!(agent.status()["hook"]["state"], "working", "{}", agent.status());
    let answer = own.run(|| exchange(TcpStream::connect(entrance.virtual_address).unwrap(), ""));
    assert!(answer.ends_with("hello"), "{answer}");
    let refused = foreign
        .run(|| TcpStream::connect(entrance.virtual_address))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let line = agent.line("the refusal is logged", |line| {
        line["msg"] == "connection refused"
    });
    assert_eq!(line["caller"], format!("{bank}/app"));
    assert_eq!(line["cr"], format!("{shop}/my-dest"));
    assert_eq!(
        (&line["reason"], &line["at"]),
        (&json!("other_namespace"), &json!("connect"))
    );
    let sample = r#"tp_scope_refused_total{reason="other_namespace",at="connect"}"#;
    assert_eq!(agent.metric(9494, sample), Some(1.0));
    assert_eq!(agent.metric(9494, "tp_ebpf_attached"), Some(1.0));
}

/// Clients without a back-off, such as one that looks for a server that is not for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_refused_all_the_time_does_not_starve_the_others() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 20;
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.pod(&shop, "app", SHOP).await;
    let foreign = node.pod(&bank, "app", BANK).await;
    let agent = node.agent("agent-flood").start();
    let (stop, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let flood = || {
            while !stop.load(Ordering::Relaxed) {
                assert!(TcpStream::connect(entrance.virtual_address).is_err());
                refused.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| foreign.start(scope, flood)).collect();
        agent.line("refusals are looked at", |line| {
            line["msg"] == "connection refused"
        });
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..ROUNDS {
                let before = refused.load(Ordering::Relaxed);
                // Each of both fails if it takes longer than the patience of tests.
                assert!(agent.ready());
                let stream = own.run(|| TcpStream::connect(entrance.virtual_address)).unwrap();
                assert!(exchange(stream, "").ends_with("hello"));
                wait::until("the others are refused all the time", || {
                    refused.load(Ordering::Relaxed) > before
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(node::join);
        served.unwrap();
    });
}

/// Its container may connect before the API server has told of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_just_begun_is_let_in_or_refused_as_any_other() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let _agent = node.agent("agent-new-pod").start();
    let own = node.pod(&shop, "new", SHOP).await;
    let answer = own.run(|| exchange(TcpStream::connect(entrance.virtual_address).unwrap(), ""));
    assert!(answer.ends_with("hello"), "{answer}");
    let foreign = node.pod(&bank, "new", BANK).await;
    let answer = foreign.run(|| match TcpStream::connect(entrance.virtual_address) {
        Ok(stream) => exchange(stream, ""),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            String::new()
        }
    });
    assert_eq!(answer, "");
}

/// Whose connections come without the kernel's word: from nodes without an agent, or to the
/// address of the agent's pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_the_target_port_is_known_by_its_address() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_elsewhere(&shop, "app", SHOP).await;
    node.pod_elsewhere(&bank, "app", BANK).await;
    let agent = node.agent("agent-direct").start();
    let watched = |agent: &Running| {
        agent.status()["facts"]
            .to_string()
            .contains(r#""all pods are watched","value":"yes""#)
    };
    assert!(
        !watched(&agent),
        "before the first one nobody has to know all pods"
    );
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    assert_eq!(node.ask(BANK, entrance.port, ""), "");
    assert!(watched(&agent));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_hook_cannot_be_attached_the_services_serve() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let agent = node
        .agent("agent-no-hook")
        .setting("ebpf", json!({"cgroupRoot": "/proc/nowhere"}))
        .start();
    let hook = &agent.status()["hook"];
    assert_eq!(hook["state"], "failed");
    assert!(
        hook["reason"].as_str().unwrap().contains("/proc/nowhere"),
        "{hook}"
    );
    assert_eq!(agent.metric(9494, "tp_ebpf_attached"), Some(0.0));
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_what_is_served_and_who_was_refused() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.pod(&shop, "app", SHOP).await;
    let foreign = node.pod(&bank, "app", BANK).await;
    let agent = node.agent("agent-explain").start();
    own.run(|| exchange(TcpStream::connect(entrance.virtual_address).unwrap(), ""));
    foreign
        .run(|| TcpStream::connect(entrance.virtual_address))
        .unwrap_err();
    let explain = |name: &str| agent.explain(&format!("{shop}/{name}"));
    agent.line("the refusal is logged", |line| {
        line["msg"] == "connection refused"
    });
    let report = explain("my-dest");
    assert_eq!(
        report["resource"],
        json!({"destination": "backend", "scope": "namespaced"})
    );
    assert_eq!(report["destination"]["state"], "found");
    assert_eq!(
        report["destination"]["source"],
        format!("the Secret {}/backend", node.installation)
    );
    let service = &report["services"][0];
    assert_eq!(
        (&service["name"], &service["listener"]),
        (&json!("my-dest"), &json!("open"))
    );
    assert_eq!(
        service["kernel"][0]["redirectedTo"],
        format!("{}:{}", node.agent_address(), entrance.port)
    );
    assert_eq!(
        report["callers"],
        json!([{"namespace": shop, "pod": "app", "knownToKernel": true}])
    );
    assert_eq!(report["refusals"][0]["who"], format!("{bank}/app"));
    let counters = &report["counters"];
    assert_eq!(
        (&counters["connections"], &counters["requests"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&counters["refused"], &counters["errors"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(explain("another")["resource"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_listed_by_resource_and_destination() {
    if !node::privileged() {
        return;
    }
    let (node, pod, db) = node_with_database(ApiServer::shared().await).await;
    let gateway = node.destination("gateway", to("*"), "http").await.virtual_address;
    let agent = node.agent("agent-connections").start();
    let stream = talk(&pod, db.virtual_address);
    let mut http = pod.run(|| TcpStream::connect(gateway)).unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Destination-Name: backend\r\n\r\n")
        .unwrap();
    expect(&mut http, "HTTP/1.1 200 OK");
    let listed: Vec<_> = agent
        .connections()
        .into_iter()
        .map(|one| {
            (
                one["cr"].clone(),
                one["destination"].clone(),
                one["source"].clone(),
            )
        })
        .collect();
    let from = |stream: &TcpStream| json!(stream.local_addr().unwrap().to_string());
    let shop = &node.shop;
    assert_eq!(
        listed,
        [
            (json!(format!("{shop}/my-db")), json!("db"), from(&stream)),
            (json!(format!("{shop}/gateway")), json!("backend"), from(&http)),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_of_the_kernel_are_logged_once_the_level_is_debug() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    let pod = node.pod(&shop, "app", SHOP).await;
    let agent = node
        .agent("agent-kernel-log")
        .setting("logging", json!({"level": "info"}))
        .start();
    let connect = || {
        let stream = pod.run(|| TcpStream::connect(entrance.virtual_address));
        assert!(exchange(stream.unwrap(), "").ends_with("hello"));
    };
    let told = || {
        let log = agent.log();
        log.iter()
            .any(|line| line["target"] == "transparent_proxy::kernel")
    };
    connect();
    assert!(!told());
    std::fs::write(
        agent.folder().join("logger-config.yaml"),
        "log:\n  level: debug\n",
    )
    .unwrap();
    wait::until("a decision is logged", || {
        connect();
        told()
    });
}

/// The kernel says which pod it is; an address of the node would not.
#[tokio::test(flavor = "multi_thread")]
async fn pods_in_the_network_of_the_node_are_told_apart_by_the_hook_alone() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.host_pod(&shop, "app", STRANGER).await;
    let foreign = node.host_pod(&bank, "app", STRANGER).await;
    let process = node.process();
    let agent = node.agent("agent-host-network").start();
    let ask = |pod: &node::Pod| {
        let stream = pod.run(|| TcpStream::connect(entrance.virtual_address));
        stream.map(|stream| exchange(stream, ""))
    };
    assert!(ask(&own).unwrap().ends_with("hello"));
    let refused = ask(&foreign).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&process).unwrap(), "");
    assert_eq!(node.ask(STRANGER, entrance.port, ""), "", "any of them");
    for (caller, reason, at) in [
        (format!("{bank}/app").as_str(), "other_namespace", "connect"),
        ("a process of the node", "node_process", "accept"),
        ("somebody in a network of several", "shared_address", "accept"),
    ] {
        let line = agent.line(caller, |line| line["caller"] == *caller);
        assert_eq!((&line["reason"], &line["at"]), (&json!(reason), &json!(at)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hook_refuses_is_counted_by_reason() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.pod(&shop, "app", SHOP).await;
    let foreign = node.pod(&bank, "app", BANK).await;
    let agent = node.agent("agent-denied-metrics").start();
    let denied = |reason: &str| {
        let sample = format!(r#"tp_ebpf_denied_total{{family="ipv4",reason="{reason}"}}"#);
        agent.metric(9494, &sample)
    };
    assert_eq!([denied("scope"), denied("port")], [Some(0.0), Some(0.0)]);
    let refused = |pod: &node::Pod, address: std::net::SocketAddr| {
        let error = pod.run(|| TcpStream::connect(address)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    };
    refused(&foreign, entrance.virtual_address);
    let another_port = std::net::SocketAddr::new(entrance.virtual_address.ip(), 81);
    refused(&own, another_port);
    assert_eq!([denied("scope"), denied("port")], [Some(1.0), Some(1.0)]);
    for name in ["tp_hook_reports_lost_total", "tp_hook_origins_lost_total"] {
        assert_eq!(agent.metric(9494, name), Some(0.0), "{name}");
    }
}

/// Names do not say who has a virtual IP now.
#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_ip_that_changes_hands_leads_to_its_new_owner() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::shared().await;
    let (node, _) = node_with_destination(server).await;
    let shop = node.shop.clone();
    let pod = node.pod(&shop, "app", SHOP).await;
    let before = node.destination("z-dest", to("backend"), "http").await;
    let agent = node.agent("agent-same-address").start();
    let ask = || {
        let stream = pod.run(|| TcpStream::connect(before.virtual_address));
        stream.map_or_else(|_| String::new(), |stream| exchange(stream, ""))
    };
    assert!(ask().ends_with("hello"));
    // One batch: the agent hears of both at once, in the list that follows.
    node.way.hold();
    node.no_service("z-dest").await;
    node.destination_at("a-dest", to("backend"), before.virtual_address.ip())
        .await;
    node.way.expire_streams();
    node.way.release();
    agent.line("the old one is gone", |line| {
        line["msg"] == "destination is not served any more" && line["service"] == "z-dest"
    });
    wait::until("the new one is served", || ask().ends_with("hello"));
    let report = agent.explain(&format!("{shop}/a-dest"));
    assert!(
        report["services"][0]["kernel"][0]["redirectedTo"].is_string(),
        "{report}"
    );
}
