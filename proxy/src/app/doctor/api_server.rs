//! Whether the API server answers, and allows what a role needs.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use super::Check;
use super::rights::{self, Right};
use crate::api::destination::Destination;
use crate::cli::Part;
use crate::cluster::slim::Metadata;
use crate::cluster::{self, client, timely};
use crate::config::kubernetes::File;

pub(super) fn all(part: Part, namespace: Option<&str>, settings: &File) -> anyhow::Result<Vec<Check>> {
    let Some(namespace) = namespace else {
        return Ok(vec![Check::failed(
            "installation namespace",
            "it is not known here",
            "give --namespace, or let the downward API give POD_NAMESPACE, as the chart does",
        )]);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(ask(part, namespace, settings)))
}

async fn ask(part: Part, namespace: &str, settings: &File) -> Vec<Check> {
    const NAME: &str = "API server";
    let client = match client::connect("doctor").await {
        Ok(client) => client,
        Err(error) => return vec![Check::error(NAME, &error.into())],
    };
    let version = match timely(client.apiserver_version()).await {
        Ok(version) => version.git_version,
        Err(error) => {
            return vec![Check::failed(
                NAME,
                format!("it does not answer: {error}"),
                "see whether NetworkPolicies allow it, and whether the service account is mounted in this pod",
            )];
        }
    };
    let mut all = vec![Check::ok(NAME, format!("it answers: {version}"))];
    all.push(allowed(&client, "rights", &rights::of(part, namespace, settings)).await);
    let secrets = rights::secrets(part, namespace, settings);
    if !secrets.is_empty() {
        all.push(allowed(&client, "Secrets with destinations", &secrets).await);
    }
    let authorities = rights::authorities(part, settings);
    if !authorities.is_empty() {
        all.push(allowed(&client, "Secret of additionalCAs", &authorities).await);
    }
    all.push(defined(client).await);
    all
}

async fn allowed(client: &Client, name: &'static str, rights: &[Right]) -> Check {
    let mut missing = Vec::new();
    for right in rights {
        match is_allowed(client, right).await {
            Ok(true) => {}
            Ok(false) => missing.push(right.to_string()),
            Err(error) => return Check::error(name, &error.into()),
        }
    }
    if missing.is_empty() {
        return Check::ok(name, "everything that is needed is allowed");
    }
    Check::failed(
        name,
        format!("not allowed: {}", missing.join(", ")),
        "see the roles and bindings of this pod's service account; the chart makes them unless that is switched off",
    )
}

async fn is_allowed(client: &Client, right: &Right) -> Result<bool, cluster::Error> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.to_owned()),
                group: Some(right.group.to_owned()),
                resource: Some(right.resource.to_owned()),
                subresource: right.subresource.map(str::to_owned),
                namespace: right.namespace.clone(),
                name: right.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = timely(reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Whether the API server knows the kind at all.
async fn defined(client: Client) -> Check {
    const NAME: &str = "Destination resources";
    let crs: Api<Metadata<Destination>> = Api::all(client);
    match timely(crs.list(&ListParams::default().limit(1))).await {
        Ok(_) => Check::ok(NAME, "the API server knows them"),
        Err(error) if error.is_not_found() => Check::failed(
            NAME,
            "the API server does not know them",
            "install the chart, or run `transparent-proxy crds | kubectl apply --server-side --filename -`",
        ),
        Err(error) => Check::error(NAME, &error.into()),
    }
}
