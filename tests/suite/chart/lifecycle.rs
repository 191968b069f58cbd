//! How the chart comes and goes, and what it asks the cluster. With a real API server, and without
//! anybody who would run pods: hooks are tried on a cluster with nodes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use transparent_proxy::api::destination::{Destination, DestinationRef, DestinationSpec};
use transparent_proxy::api::labels;

use super::{chart, helm, rendered, values};
use crate::harness::api_server::ApiServer;
use crate::harness::certs::Authority;
use crate::harness::peers;

const SOON: Duration = Duration::from_secs(20);
const DEFINITION: &str = "destinations.destination.connectivity.api.sap";

/// helm, as the administrator of an API server.
struct Helm<'a> {
    server: &'a ApiServer,
    namespace: &'a str,
}

impl Helm<'_> {
    /// Words, separated by blanks.
    fn run(&self, words: &str, values: Option<&str>) -> Result<String, String> {
        let mut helm = helm::helm();
        helm.env("KUBECONFIG", self.server.kubeconfig())
            .args(words.split(' '))
            .args(["--namespace", self.namespace]);
        match values {
            Some(values) => helm::with_values(helm, values),
            None => helm::run(helm),
        }
    }

    fn install(&self, release: &str, values: &str) -> Result<String, String> {
        self.run(&format!("install {release} {}", chart().display()), Some(values))
    }

    fn try_install(&self, values: &str) -> Result<String, String> {
        self.try_install_of(&chart(), values)
    }

    /// Renders and asks the API server, and leaves nothing.
    fn try_install_of(&self, chart: &Path, values: &str) -> Result<String, String> {
        let words = format!("install --dry-run=server transparent-proxy {}", chart.display());
        self.run(&words, Some(values))
    }

    fn upgrade(&self, release: &str) -> Result<String, String> {
        self.run(&format!("upgrade {release} {}", chart().display()), Some(""))
    }

    /// Without hooks: there is nobody who would run them.
    fn uninstall(&self, release: &str) -> String {
        self.run(&format!("uninstall --no-hooks {release}"), None)
            .unwrap()
    }
}

fn notes(said: &str) -> &str {
    let (_, notes) = said.split_once("\nNOTES:\n").unwrap_or_default();
    notes
}

#[tokio::test]
async fn notes_say_the_next_command() {
    let server = ApiServer::shared().await;
    let namespace = &server.namespace("notes").await;
    let helm = Helm { server, namespace };
    let said = helm.try_install("").unwrap();
    let notes = notes(&said);
    for expected in [
        &*format!("helm test transparent-proxy --namespace {namespace}"),
        "kind: Destination",
        "Not encrypted:",
        "They stay on the node",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
    assert!(!notes.contains("no effect"), "{notes}");
    let without_hook = helm.try_install(&values("without-hook")).unwrap();
    assert!(without_hook.contains("They cross the network of the pods"));
    let without_fallback = helm.try_install(&values("no-fallback")).unwrap();
    assert!(without_fallback.contains("is not ready and an agent answers from another one"));
}

/// Without the label the destination of the notes would never become available.
#[tokio::test]
async fn notes_label_the_namespace_before_they_wait() {
    let server = ApiServer::shared().await;
    let namespace = &server.namespace("labels").await;
    let helm = Helm { server, namespace };
    let said = helm
        .try_install("config: {managedNamespacesMode: labelSelector}")
        .unwrap();
    let commands: Vec<_> = notes(&said)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("kubectl "))
        .collect();
    let place = |start: &str| commands.iter().position(|command| command.starts_with(start));
    let label =
        format!("label namespace default transparent-proxy.connectivity.api.sap/namespace={namespace}");
    assert!(
        place(&label).expect("it is said") < place("wait").expect("it waits"),
        "{said}"
    );
}

#[tokio::test]
async fn notes_name_values_that_do_nothing() {
    let server = ApiServer::shared().await;
    let namespace = &server.namespace("idle").await;
    let helm = Helm { server, namespace };
    let everything = values("everything").replace("secretNamespace: proxy", "secretNamespace: ''");
    let said = helm.try_install(&everything).unwrap();
    let (_, idle) = notes(&said)
        .split_once("These values have no effect:\n")
        .expect("they are named");
    insta::assert_snapshot!(idle.trim_end());
}

#[tokio::test]
async fn notes_are_quiet_in_a_subchart() {
    let server = ApiServer::shared().await;
    let namespace = &server.namespace("parent").await;
    let helm = Helm { server, namespace };
    let parent = super::rendering::parent();
    let words = format!(
        "install --dry-run=server --render-subchart-notes parent {}",
        parent.path().display()
    );
    let said = helm
        .run(&words, Some("transparent-proxy: {enabled: true}"))
        .unwrap();
    assert!(said.contains("kind: DaemonSet"), "{said}");
    assert_eq!(notes(&said).trim(), "");
}

#[tokio::test]
async fn a_namespace_that_refuses_the_agents_is_named() {
    let server = ApiServer::shared().await;
    for level in ["baseline", "restricted"] {
        let labels = [("pod-security.kubernetes.io/enforce", level)];
        let namespace = &server.labelled_namespace("refusing", &labels).await;
        let helm = Helm { server, namespace };
        let complaint = helm.try_install("").unwrap_err();
        assert!(
            complaint.contains(&format!("enforces the Pod Security level {level}")),
            "{complaint}"
        );
        helm.try_install(&values("without-hook")).unwrap();
        helm.try_install("config: {helm: {skipExistingResourceValidation: true}}")
            .unwrap();
    }
}

/// The admission of a real API server decides.
#[tokio::test]
async fn all_pods_but_the_agents_are_let_into_a_restricted_namespace() {
    let server = ApiServer::shared().await;
    let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
    let namespace = &server.labelled_namespace("restricted", &labels).await;
    let pods: Api<Pod> = Api::namespaced(server.client().await, namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for set in ["everything", "nothing-but-services"] {
        for object in &rendered(set).objects {
            let Some(template) = object.pod_template() else {
                continue;
            };
            let mut spec = template.spec;
            // Accounts and classes are not there, and not the question.
            (spec.service_account_name, spec.priority_class_name) = (None, None);
            spec.automount_service_account_token = Some(false);
            let pod = Pod {
                metadata: ObjectMeta {
                    name: Some("try".to_owned()),
                    labels: Some(template.labels),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
                status: None,
            };
            let refused = pods.create(&dry_run, &pod).await.err();
            let hooked = set == "everything" && template.of.starts_with("DaemonSet");
            assert_eq!(refused.is_some(), hooked, "{}: {refused:?}", template.of);
        }
    }
}

/// Both would make Services for the same resources.
#[tokio::test]
async fn installations_that_manage_the_same_namespaces_are_refused() {
    let server = &ApiServer::start().await;
    let client = server.client().await;
    create_namespace(&client, "first").await;
    create_namespace(&client, "second").await;
    let [first, second] = ["first", "second"].map(|namespace| Helm { server, namespace });
    let by_label = "config: {managedNamespacesMode: labelSelector}";
    first.install("transparent-proxy", "").unwrap();
    established(&client).await;

    let complaint = "config.managedNamespacesMode: there is another installation, in first, \
         which manages all namespaces; both need labelSelector";
    for values in ["", by_label] {
        let refused = second.install("transparent-proxy", values).unwrap_err();
        assert!(refused.contains(complaint), "{values}: {refused}");
    }
    // One that makes room for others, with the one that was in the way still there.
    let unchecked = "config: {helm: {skipExistingResourceValidation: true}}";
    second.install("transparent-proxy", unchecked).unwrap();
    let words = format!("upgrade transparent-proxy {}", chart().display());
    first.run(&words, Some(by_label)).unwrap();
    second.run(&words, Some(by_label)).unwrap();

    // Without any value, helm would take those of the release before.
    let all = Some("config: {managedNamespacesMode: all}");
    let refused = first.run(&words, all).unwrap_err();
    let complaint = "there is another installation, in second; both need labelSelector";
    assert!(refused.contains(complaint), "{refused}");
    // What was left of another one is none.
    second.uninstall("transparent-proxy");
    first.run(&words, all).unwrap();
}

#[tokio::test]
async fn namespaces_of_secrets_that_are_not_there_are_named() {
    let server = ApiServer::shared().await;
    let there = &server.namespace("secrets").await;
    let namespace = &server.namespace("reader").await;
    let helm = Helm { server, namespace };
    let wanted = format!("integration: {{secrets: {{namespaces: [{there}, nowhere, {namespace}]}}}}");
    let complaint = helm.try_install(&format!("config: {{{wanted}}}")).unwrap_err();
    assert!(
        complaint.contains("- config.integration.secrets.namespaces: there is no namespace nowhere\n"),
        "{complaint}"
    );
    assert_eq!(
        complaint.matches("there is no namespace").count(),
        1,
        "{complaint}"
    );
    helm.try_install(&format!(
        "config: {{integration: {{secrets: {{namespaces: [{there}]}}}}}}"
    ))
    .unwrap();
    helm.try_install(&format!(
        "config: {{helm: {{skipExistingResourceValidation: true}}, {wanted}}}"
    ))
    .unwrap();
}

#[tokio::test]
async fn certificate_authorities_that_are_not_there_are_named() {
    let server = ApiServer::shared().await;
    let namespace = &server.namespace("roots").await;
    let helm = Helm { server, namespace };
    let wanted = "additionalCAs: {secretName: roots, secretKey: ca.pem}";
    let refused = |expected: &str| {
        let complaint = helm.try_install(wanted).unwrap_err();
        assert!(complaint.contains(expected), "{complaint}");
    };
    refused(&format!("the Secret roots does not exist in {namespace}"));
    helm.try_install(&format!(
        "{{{wanted}, config: {{helm: {{skipExistingResourceValidation: true}}}}}}"
    ))
    .unwrap();

    let secrets: Api<Secret> = Api::namespaced(server.client().await, namespace);
    let put = async |data: Value| {
        let secret = json!({ "metadata": { "name": "roots" }, "stringData": data });
        let secret = serde_json::from_value(secret).unwrap();
        secrets.delete("roots", &DeleteParams::default()).await.ok();
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    };
    put(json!({ "other": "" })).await;
    refused("ca.pem in the Secret roots contains no certificate in PEM");
    let certificate = &Authority::new().certificate_pem;
    let cut = &certificate[..certificate.len() / 2];
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} CERTIFICATE-----\n"));
    for none in [
        "hello",
        &begin,
        cut,
        &format!("{begin}{end}"),
        &format!("{begin}aGVsbG8=\n{end}"),
        &certificate.replace("CERTIFICATE", "PRIVATE KEY"),
    ] {
        put(json!({ "ca.pem": none })).await;
        refused("ca.pem in the Secret roots contains no certificate in PEM");
    }
    for some in [certificate, &format!("# ours\n{certificate}{certificate}")] {
        put(json!({ "ca.pem": some })).await;
        helm.try_install(wanted).unwrap();
    }
}

/// Names of everything that belongs to one installation, anywhere.
async fn left(client: &Client, namespace: &str) -> Vec<String> {
    let mut left = Vec::new();
    for kind in [
        "apps/v1 DaemonSet daemonsets",
        "apps/v1 Deployment deployments",
        "autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers",
        "batch/v1 Job jobs",
        "coordination.k8s.io/v1 Lease leases",
        "networking.k8s.io/v1 NetworkPolicy networkpolicies",
        "policy/v1 PodDisruptionBudget poddisruptionbudgets",
        "rbac.authorization.k8s.io/v1 Role roles",
        "rbac.authorization.k8s.io/v1 RoleBinding rolebindings",
        "v1 ConfigMap configmaps",
        "v1 Pod pods",
        "v1 Secret secrets",
        "v1 Service services",
        "v1 ServiceAccount serviceaccounts",
    ] {
        let [api, kind, plural] = kind.split(' ').collect::<Vec<_>>()[..] else {
            unreachable!("three words each")
        };
        let resource = kube::api::ApiResource {
            group: api.rsplit_once('/').map_or("", |(group, _)| group).to_owned(),
            version: api.rsplit('/').next().unwrap_or(api).to_owned(),
            api_version: api.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let objects = objects.list(&ListParams::default()).await.unwrap();
        left.extend(objects.into_iter().filter_map(|object| object.metadata.name));
    }
    let mine = |name: &str| name.starts_with("sap-transp-proxy") && name.ends_with(namespace);
    let roles = Api::<ClusterRole>::all(client.clone());
    let roles = roles.list_metadata(&ListParams::default()).await.unwrap();
    let bindings = Api::<ClusterRoleBinding>::all(client.clone());
    let bindings = bindings.list_metadata(&ListParams::default()).await.unwrap();
    let names = roles.items.into_iter().map(|role| role.metadata.name);
    let names = names.chain(bindings.items.into_iter().map(|binding| binding.metadata.name));
    left.extend(names.flatten().filter(|name| mine(name)));
    left.retain(|name| name != "kube-root-ca.crt" && name != "default");
    left
}

async fn create_namespace(client: &Client, name: &str) {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let namespaces = Api::all(client.clone());
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

async fn definition(client: &Client) -> CustomResourceDefinition {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.get(DEFINITION).await.unwrap()
}

/// Until objects of it can be made.
async fn established(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let established = await_condition(definitions, DEFINITION, is_crd_established());
    tokio::time::timeout(SOON, established)
        .await
        .expect("the definition is established in time")
        .unwrap();
}

/// As an older version would have it: the schema without one of the fields.
async fn take_field_away(client: &Client, field: &str) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut old = definition(client).await;
    fields(&mut old).remove(field).expect("it was there");
    let post = PostParams::default();
    definitions.replace(DEFINITION, &post, &old).await.unwrap();
}

/// Of `spec`.
fn fields(
    definition: &mut CustomResourceDefinition,
) -> &mut std::collections::BTreeMap<
    String,
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps,
> {
    let schema = definition.spec.versions[0].schema.as_mut().unwrap();
    let schema = schema.open_api_v3_schema.as_mut().unwrap();
    let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
    spec.properties.as_mut().unwrap()
}

/// <https://helm.sh/docs/chart_best_practices/custom_resource_definitions/>: what is in `crds/` is
/// never changed again, and what is a template goes with its release, and with it all resources.
#[tokio::test]
async fn destinations_outlive_releases_and_their_definition_is_kept_current() {
    let server = &ApiServer::start().await;
    let client = server.client().await;
    create_namespace(&client, "first").await;
    create_namespace(&client, "second").await;
    let first = Helm {
        server,
        namespace: "first",
    };
    let second = Helm {
        server,
        namespace: "second",
    };
    let destinations: Api<Destination> = Api::namespaced(client.clone(), "default");
    let destination = Destination::new(
        "my-dest",
        DestinationSpec {
            destination_ref: DestinationRef {
                name: "my-dest".to_owned(),
                level: None,
            },
            ..DestinationSpec::default()
        },
    );

    let by_label = "config: {managedNamespacesMode: labelSelector}";
    first.install("transparent-proxy", by_label).unwrap();
    established(&client).await;
    destinations
        .create(&PostParams::default(), &destination)
        .await
        .unwrap();

    // A second installation uses the definition, and does not take it with it.
    let said = second.install("other", by_label).unwrap();
    assert!(said.contains("was there already"), "{said}");
    second.uninstall("other");
    assert_eq!(left(&client, "second").await, [""; 0]);

    // An upgrade brings fields that are new.
    take_field_away(&client, "chainRef").await;
    first.upgrade("transparent-proxy").unwrap();
    assert!(fields(&mut definition(&client).await).contains_key("chainRef"));

    // Nothing else stays, and a second time is like the first.
    first.uninstall("transparent-proxy");
    assert_eq!(left(&client, "first").await, [""; 0]);
    destinations.get("my-dest").await.unwrap();
    first.install("transparent-proxy", "").unwrap();
    first.uninstall("transparent-proxy");

    // Somebody else's definition that lacks something is not touched, and what it lacks is named.
    take_field_away(&client, "chainRef").await;
    take_field_away(&client, "service").await;
    let complaint = second.install("other", "").unwrap_err();
    assert!(
        complaint.contains("belongs to another installation and lacks spec.chainRef, spec.service;"),
        "{complaint}"
    );
    assert!(!fields(&mut definition(&client).await).contains_key("chainRef"));

    // It can be handed over as the message says.
    hand_over(server, &complaint);
    second.install("other", "").unwrap();
    assert!(fields(&mut definition(&client).await).contains_key("chainRef"));
    destinations.get("my-dest").await.unwrap();
}

/// Runs the commands that the complaint ends with.
fn hand_over(server: &ApiServer, complaint: &str) {
    let (_, commands) = complaint
        .split_once("hand the definition over: ")
        .expect("it says how");
    let commands = commands.lines().next().expect("a line");
    for command in commands.split(" && ") {
        kubectl(server, command);
    }
}

/// As a text says it.
fn kubectl(server: &ApiServer, command: &str) {
    let words = command.strip_prefix("kubectl ").expect("a command of kubectl");
    let output = Command::new(peers::path("kubectl"))
        .env("KUBECONFIG", server.kubeconfig())
        .args(words.split(' '))
        .output();
    let output = output.expect("kubectl starts");
    assert!(output.status.success(), "{command}: {output:?}");
}

/// What the manager of an installation would leave.
async fn make_service_and_lease(client: &Client, installation: &str) {
    let service = json!({
        "metadata": { "name": "my-dest", "labels": { (labels::INSTALLATION): installation } },
        "spec": { "type": "ExternalName", "externalName": "my-dest.test" },
    });
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = serde_json::from_value(service).unwrap();
    services.create(&PostParams::default(), &service).await.unwrap();
    let lease = json!({ "metadata": { "name": "sap-transp-proxy-manager" } });
    let leases: Api<Lease> = Api::namespaced(client.clone(), installation);
    let lease = serde_json::from_value(lease).unwrap();
    leases.create(&PostParams::default(), &lease).await.unwrap();
}

/// Nobody runs pods here, so the Job comes to nothing, as where no pod can start.
#[tokio::test]
async fn what_an_uninstallation_without_its_job_leaves_is_removed_as_the_readme_says() {
    let server = &ApiServer::start().await;
    let client = server.client().await;
    create_namespace(&client, "proxy").await;
    let namespace = "proxy";
    let helm = Helm { server, namespace };
    helm.install("transparent-proxy", "").unwrap();
    make_service_and_lease(&client, namespace).await;

    helm.run("uninstall --timeout 2s transparent-proxy", None)
        .unwrap_err();
    let there = left(&client, namespace).await;
    for expected in ["sap-transp-proxy-cleanup", "sap-transp-proxy-manager"] {
        assert!(there.iter().any(|name| name == expected), "{expected}: {there:?}");
    }
    helm.uninstall("transparent-proxy");
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let (_, commands) = readme
        .split_once("<!-- after an uninstallation without its Job -->\n```sh\n")
        .expect("the commands");
    let (commands, _) = commands.split_once("```").expect("an end");
    for command in commands.lines() {
        kubectl(server, &command.replace("<namespace>", namespace));
    }
    assert_eq!(left(&client, namespace).await, [""; 0]);
    let services: Api<Service> = Api::namespaced(client, "default");
    assert_eq!(services.get_opt("my-dest").await.unwrap(), None);
}
