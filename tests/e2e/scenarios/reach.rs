//! Unchanged applications reach destinations by their names.

use std::time::Duration;

use crate::harness::wait::until;
use crate::harness::world::World;

pub fn curl_and_java_on_both_nodes_reach_an_http_destination_by_name(world: &World) {
    for pod in world.shop() {
        // The application says nothing about users and passwords.
        let answer = pod.curl("http://catalog/items?of=shop");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "welcome\n"),
            "{answer:?}"
        );
        let request = world.servers().catalog.last();
        assert_eq!(request.path, "/items?of=shop");
        assert!(request.host.starts_with("catalog.example.test:"), "{request:?}");

        let form = [
            "--write-out",
            "\n%{remote_ip}:%{remote_port}",
            "--output",
            "/dev/null",
        ];
        let seen = pod.exec(&[&["curl", "--silent"], &form[..], &["http://catalog/"]].concat());
        assert_eq!(
            seen.trim(),
            format!("{}:80", virtual_ip(world, "catalog")),
            "the application sees the address that it asked for"
        );
        assert_eq!(
            pod.java("http://catalog/"),
            "HTTP_1_1 200 welcome\nHTTP_2 200 welcome\n"
        );
        for name in [
            "catalog.shop",
            "catalog.shop.svc.cluster.local",
            "catalog.transparent-proxy",
        ] {
            assert_eq!(pod.curl(&format!("http://{name}/")).status, 200, "{name}");
        }
    }
}

pub fn pods_on_both_nodes_reach_a_tcp_destination_by_name(world: &World) {
    for pod in world.shop() {
        assert_eq!(pod.echo("echo", 7000), "hello\n");
    }
}

/// Targets see which agent has sent a request.
pub fn each_nodes_agent_serves_the_pods_of_its_node(world: &World) {
    let installation = world.installation();
    for (node, pod) in ["node1", "node2"].into_iter().zip(world.shop()) {
        let agent = installation.agent(node);
        assert_eq!(pod.curl("http://catalog/").status, 200);
        assert_eq!(
            world.servers().catalog.last().from,
            agent.address,
            "HTTP on {node}"
        );
        assert_eq!(pod.echo("echo", 7000), "hello\n");
        assert_eq!(world.servers().echo.last_peer(), agent.address, "TCP on {node}");
    }
}

pub fn a_port_forward_reaches_a_destination(world: &World) {
    let command = [
        "kubectl",
        "port-forward",
        "--namespace",
        "transparent-proxy",
        "service/catalog",
        "18080:80",
    ];
    let mut forward = world
        .cluster
        .command("node1", &command)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the script starts");
    let node = world.cluster.node("node1");
    until(Duration::from_secs(20), "the forwarded port answers", || {
        let script = "curl --silent --max-time 5 http://127.0.0.1:18080/ || true";
        node.run(&["sh", "-c", script]) == "welcome\n"
    });
    forward.kill().expect("it is our child");
    forward.wait().expect("it is our child");
}

/// Of the Service in the namespace of the installation.
pub(super) fn virtual_ip(world: &World, name: &str) -> String {
    let service = world
        .cluster
        .get(&["service", name, "--namespace", "transparent-proxy"]);
    service["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned()
}
