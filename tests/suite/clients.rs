//! Applications in five languages, unchanged and without a credential, reach a server that demands one.

use std::process::Command;

use serde_json::json;

use crate::harness::certs::Authority;
use crate::harness::nginx::Nginx;
use crate::harness::proxy::Proxy;
use crate::harness::{binary, peers};

const USER: &str = "ada";
const PASSWORD: &str = "s3cr3t-clients";
/// base64 of `ada:s3cr3t-clients`
const AUTHORIZATION: &str = "Basic YWRhOnMzY3IzdC1jbGllbnRz";

/// A proxy with the destination `my-dest`, and the server behind it.
fn proxy_and_server(test: &str) -> (Proxy, Nginx) {
    let authority = Authority::new();
    let server = Nginx::that_demands(AUTHORIZATION, &authority);
    let proxy = Proxy::for_test(test).trusting(&authority).destination(
        "my-dest",
        json!({
            "Type": "HTTP",
            "URL": format!("https://localhost:{}", server.address.port()),
            "ProxyType": "Internet",
            "Authentication": "BasicAuthentication",
            "User": USER,
            "Password": PASSWORD,
            "TrustStoreLocation": "ca.crt",
        }),
    );
    (proxy, server)
}

#[test]
fn curl_reaches_a_server_that_demands_a_credential_and_sees_the_virtual_ip() {
    let (proxy, _server) = proxy_and_server("curl");
    let output = proxy.output_of(&[
        "curl",
        "-sS",
        "-w",
        "%{http_code} %{remote_ip}:%{remote_port}",
        "http://my-dest/",
    ]);
    assert_eq!(output, "welcome\n200 127.66.0.1:80");
}

#[test]
fn the_server_refuses_whoever_comes_without_the_proxy() {
    let (_proxy, server) = proxy_and_server("no-proxy");
    let url = format!("https://{}/", server.address);
    let output = Command::new("curl")
        .args(["-sSk", "-o", "/dev/null", "-w", "%{http_code}", &url])
        .output();
    assert_eq!(output.expect("curl starts").stdout, b"401");
}

#[test]
fn python_with_http_client_asyncio_and_a_mapped_address_works() {
    let (proxy, _server) = proxy_and_server("python");
    let script = binary::tests_folder().join("clients/client.py");
    let output = proxy.output_of(&["python3", &script.display().to_string(), "my-dest", "80", "/"]);
    assert_eq!(
        output,
        "http.client 200 welcome 127.66.0.1:80\n\
         asyncio 200 welcome 127.66.0.1:80\n\
         mapped 200 welcome ::ffff:127.66.0.1:80\n"
    );
}

#[test]
fn a_static_go_binary_works() {
    let (proxy, _server) = proxy_and_server("go");
    let client = peers::go_client();
    let output = proxy.output_of(&[client.as_os_str(), "http://my-dest/".as_ref()]);
    assert_eq!(output, "net/http 200 welcome 127.66.0.1:80\n");
}

#[test]
fn the_java_http_client_works_also_when_it_asks_for_h2c() {
    let (proxy, _server) = proxy_and_server("java");
    let source = binary::tests_folder().join("clients/Client.java");
    let output = proxy.output_of(&["java", &source.display().to_string(), "http://my-dest/"]);
    assert_eq!(output, "HTTP_1_1 200 welcome\nHTTP_2 200 welcome\n");
}

#[test]
fn node_with_fetch_and_http_works() {
    let (proxy, _server) = proxy_and_server("node");
    let script = binary::tests_folder().join("clients/client.mjs");
    let output = proxy.output_of(&["node", &script.display().to_string(), "http://my-dest/"]);
    assert_eq!(output, "fetch 200 welcome\nnode:http 200 welcome 127.66.0.1:80\n");
}

#[test]
fn a_client_certificate_is_shown_to_the_server() {
    let authority = Authority::new();
    let server = Nginx::that_demands_a_client_certificate(&authority);
    let identity = authority.client("the-proxy");
    let proxy = Proxy::for_test("client-certificate")
        .trusting(&authority)
        .file("identity.pem", identity.certificate_pem + &identity.key_pem)
        .destination(
            "my-dest",
            json!({
                "Type": "HTTP",
                "URL": format!("https://localhost:{}", server.address.port()),
                "ProxyType": "Internet",
                "Authentication": "ClientCertificateAuthentication",
                "KeyStoreLocation": "identity.pem",
                "TrustStoreLocation": "ca.crt",
            }),
        );
    assert_eq!(
        proxy.output_of(&["curl", "-sS", "http://my-dest/"]),
        "welcome CN=the-proxy\n"
    );
}
