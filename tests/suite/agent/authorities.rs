//! Certificate authorities of token services, out of a Secret.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};

use super::*;
use crate::harness::certs::Authority;

const NAME: &str = "roots";
const KEY: &str = "company.crt";

fn fact(agent: &Running) -> (bool, String) {
    let status = agent.status();
    let facts = status["facts"].as_array().expect("facts");
    let fact = facts.iter().find(|fact| fact["name"] == "additional authorities");
    let fact = fact.expect("it is told");
    (fact["ok"] == true, fact["value"].as_str().unwrap().to_owned())
}

fn of_client(service: &str, target: &str, client: &str) -> Value {
    json!({
        "Type": "HTTP", "URL": target, "Authentication": "OAuth2ClientCredentials",
        "tokenServiceURL": service, "clientId": client, "clientSecret": "s3cr3t-of-authorities",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_token_services_change_with_their_secret_and_stay_when_it_breaks() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::shared().await;
    let node = Node::new(server).await;
    let pki = server.namespace("pki").await;
    let (old, new) = (Authority::new(), Authority::new());
    let service = node.token_service(|address| new.server(&[address]));
    let target = node.web("hello");
    let mut entrances = Vec::new();
    for name in ["first", "second"] {
        node.secret(name, of_client(&service, &target, name)).await;
        entrances.push(node.destination(name, to(name), "http").await.port);
    }
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let secrets: Api<Secret> = Api::namespaced(node.client.clone(), &pki);
    let put = async |text: &str| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME},
            "stringData": {(KEY): text},
        });
        let params = PatchParams::apply("tests").force();
        secrets
            .patch(NAME, &params, &Patch::Apply(&secret))
            .await
            .expect("the Secret is applied");
    };
    put("hello").await;
    let place = json!({"namespace": pki, "secret": NAME, "key": KEY});
    let agent = node
        .agent("agent-authorities")
        .fallback()
        .setting("additionalCas", place)
        .start();
    let becomes = |what: &str, ok: bool, end: &str| {
        wait::until(what, || {
            let (is_ok, told) = fact(&agent);
            is_ok == ok && told.ends_with(end)
        });
    };
    becomes("what is broken is told", false, "; 0 certificates are trusted");
    let answer = node.ask(SHOP, entrances[0], "");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    put(&old.certificate_pem).await;
    becomes("the old one is trusted", true, "1 certificates");
    let answer = node.ask(SHOP, entrances[0], "");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    put(&format!("{}{}", old.certificate_pem, new.certificate_pem)).await;
    becomes("both are trusted", true, "2 certificates");
    wait::until("there is a token", || {
        node.ask(SHOP, entrances[0], "").ends_with("hello")
    });

    put("broken again").await;
    becomes("it is told", false, "; 2 certificates are trusted");
    secrets
        .delete(NAME, &DeleteParams::default())
        .await
        .expect("it is there");
    wait::until("what is missing is told", || {
        fact(&agent).1.contains(" is missing; ")
    });
    // Its token is fetched for the first time.
    assert!(node.ask(SHOP, entrances[1], "").ends_with("hello"));

    let asked = node
        .way
        .seen()
        .into_iter()
        .filter(|seen| seen.is_of("secrets") && seen.is_of(&pki));
    for seen in asked {
        assert!(
            seen.query.contains("fieldSelector=metadata.name%3Droots"),
            "{}",
            seen.query
        );
    }
}
