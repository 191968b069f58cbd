//! Client, node and upstream in network namespaces of their own, none of which has a route out: the proxy serves
//! the client's cgroup from the node, as it would serve a container.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::harness::certs::Authority;
use crate::harness::nginx::Nginx;
use crate::harness::node::{Network, PROXY4, PROXY6, privileged};
use crate::harness::proxy::{Proxy, Serving};
use crate::harness::{binary, peers};

const PASSWORD: &str = "s3cr3t-namespaces";
/// base64 of `ada:s3cr3t-namespaces`
const AUTHORIZATION: &str = "Basic YWRhOnMzY3IzdC1uYW1lc3BhY2Vz";

/// The destination `my-dest`, which the client's programs find in their hosts file. Fields end in their order.
struct Stage {
    serving: Serving,
    _upstream: Nginx,
    network: Network,
    hosts: PathBuf,
    _proxy: Proxy,
}

impl Stage {
    fn new(test: &str, listen: &str, virtual_ips: &str) -> Self {
        let (network, authority) = (Network::new(), Authority::new());
        let address: Ipv4Addr = Network::UPSTREAM.parse().expect("a constant");
        let namespace = network.upstream.namespace.path();
        let upstream = Nginx::that_demands_in(&namespace, address, AUTHORIZATION, &authority);
        let proxy = Proxy::for_test(test).trusting(&authority).destination(
            "my-dest",
            json!({
                "Type": "HTTP",
                "URL": format!("https://{}", upstream.address),
                "ProxyType": "Internet",
                "Authentication": "BasicAuthentication",
                "User": "ada",
                "Password": PASSWORD,
                "TrustStoreLocation": "ca.crt",
            }),
        );
        let hosts = proxy.folder().join("hosts");
        let proxy = ["--listen", listen, "--virtual-ips", virtual_ips, "--hosts-file"]
            .into_iter()
            .fold(proxy, Proxy::option)
            .option(hosts.display().to_string());
        let serving = network.node.run(|| proxy.serve(&network.client.cgroup));
        Self {
            serving,
            _upstream: upstream,
            network,
            hosts,
            _proxy: proxy,
        }
    }

    /// What a program in the client prints; `/etc/hosts` is the proxy's hosts file.
    fn output_of(&self, program: &[&str]) -> String {
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let output = self.network.client.run(|| {
            Command::new("unshare")
                .args(["--mount", "sh", "-c", script])
                .arg(&self.hosts)
                .args(program)
                .output()
        });
        let output = output.expect("unshare(1) is there");
        assert!(
            output.status.success(),
            "{program:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("it prints text")
    }
}

fn client(file: &str) -> String {
    binary::tests_folder()
        .join("clients")
        .join(file)
        .display()
        .to_string()
}

const CURL: [&str; 5] = [
    "curl",
    "-sS",
    "-w",
    "%{http_code} %{remote_ip}:%{remote_port}\n",
    "http://my-dest/",
];

#[test]
fn clients_in_five_languages_reach_the_upstream_of_another_namespace() {
    if !privileged() {
        return;
    }
    let stage = Stage::new("namespaces", PROXY4, "10.96.0.0/16");
    assert_eq!(stage.output_of(&CURL), "welcome\n200 10.96.0.1:80\n");
    assert_eq!(
        stage.output_of(&["python3", &client("client.py"), "my-dest", "80", "/"]),
        "http.client 200 welcome 10.96.0.1:80\n\
         asyncio 200 welcome 10.96.0.1:80\n\
         mapped 200 welcome ::ffff:10.96.0.1:80\n"
    );
    let go = peers::go_client().display().to_string();
    assert_eq!(
        stage.output_of(&[&go, "http://my-dest/"]),
        "net/http 200 welcome 10.96.0.1:80\n"
    );
    assert_eq!(
        stage.output_of(&["java", &client("Client.java"), "http://my-dest/"]),
        "HTTP_1_1 200 welcome\nHTTP_2 200 welcome\n"
    );
    assert_eq!(
        stage.output_of(&["node", &client("client.mjs"), "http://my-dest/"]),
        "fetch 200 welcome\nnode:http 200 welcome 10.96.0.1:80\n"
    );
}

#[test]
fn ipv6_virtual_ips_work_alike() {
    if !privileged() {
        return;
    }
    let stage = Stage::new("namespaces-ipv6", PROXY6, "fd00:96::/64");
    assert_eq!(stage.output_of(&CURL), "welcome\n200 fd00:96::1:80\n");
    let go = peers::go_client().display().to_string();
    assert_eq!(
        stage.output_of(&[&go, "http://my-dest/"]),
        "net/http 200 welcome [fd00:96::1]:80\n"
    );
    assert_eq!(
        stage.output_of(&["java", &client("Client.java"), "http://my-dest/"]),
        "HTTP_1_1 200 welcome\nHTTP_2 200 welcome\n"
    );
    assert_eq!(
        stage.output_of(&["node", &client("client.mjs"), "http://my-dest/"]),
        "fetch 200 welcome\nnode:http 200 welcome fd00:96::1:80\n"
    );
}

#[test]
fn only_the_served_cgroup_is_redirected_and_nothing_after_the_end() {
    if !privileged() {
        return;
    }
    let stage = Stage::new("namespaces-end", PROXY4, "10.96.0.0/16");
    let address = stage.serving.address("my-dest");
    let connect = || TcpStream::connect(address);
    let network = &stage.network;
    network.client.run(connect).expect("it is redirected");
    let error = network.node.run(connect).expect_err("the node is not served");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);

    assert!(stage.serving.stop().success());
    let error = network.client.run(connect).expect_err("nobody redirects");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    assert!(!stage.hosts.exists(), "it was the proxy's own file");
}
