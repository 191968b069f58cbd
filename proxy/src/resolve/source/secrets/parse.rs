//! From a Secret to a claim.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::claim::{Claim, Generation, SecretName};
use super::data_keys::DataKeys;
use super::form::{self, Written};
use super::snapshot::Harmless;
use super::{AllowedNamespaces, Refused};
use crate::resolve::destination::{Destination, Interpretation, Invalid, Source, Warning, interpret};

/// Of `Name`, the only property that a Secret has by itself.
const NAME: &str = "Name";

pub(super) fn name_of(secret: &Secret) -> SecretName {
    let part = |part: &Option<String>| part.as_deref().unwrap_or_default().into();
    SecretName {
        namespace: part(&secret.metadata.namespace),
        name: part(&secret.metadata.name),
    }
}

pub(super) fn generation_of(secret: &Secret) -> Generation {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    Generation {
        uid: part(&secret.metadata.uid),
        resource_version: part(&secret.metadata.resource_version),
    }
}

/// Reads a Secret and overwrites it. `before` is what was read of it last.
pub(super) fn claim(mut secret: Secret, before: Option<&Claim>) -> Claim {
    let (allowed, warning) = AllowedNamespaces::of(secret.metadata.annotations.as_ref());
    let keys = DataKeys::take(&mut secret);
    let name = name_of(&secret);
    let read = read(&keys, &name);
    let destination = match (&read.destination, before) {
        (Some(destination), _) => Arc::from(destination.as_str()),
        (None, Some(before)) => Arc::clone(&before.destination),
        (None, None) => Arc::clone(&name.name),
    };
    Claim {
        generation: generation_of(&secret),
        created: secret.metadata.creation_timestamp,
        secret: name,
        destination,
        allowed,
        outcome: kept(read.outcome, before),
        warnings: warning.into_iter().collect(),
        harmless: read.harmless,
    }
}

struct Read {
    /// Unless it cannot be told: those who use the destination are to learn why.
    destination: Option<String>,
    outcome: Result<Destination, Refused>,
    harmless: Option<Harmless>,
}

fn read(keys: &DataKeys, secret: &SecretName) -> Read {
    let mut written = form::read(keys);
    let is_unreadable = !written.problems.is_empty() && written.properties.is_empty();
    let has_name = written
        .properties
        .get(NAME)
        .is_some_and(|name| !name.trim().is_empty());
    if !has_name {
        written.properties.insert(NAME, &*secret.name);
    }
    let Written {
        properties,
        problems,
        warnings,
    } = written;
    let interpretation = interpret(&properties, keys, Source::Secrets);
    let name_is_bad = interpretation.refuses(NAME) || !has_name && !problems.is_empty();
    let outcome = if is_unreadable {
        Err(Refused { problems, warnings })
    } else {
        joined(interpretation, problems, warnings)
    };
    Read {
        destination: properties.get(NAME).filter(|_| !name_is_bad).map(str::to_owned),
        harmless: outcome.as_ref().ok().and_then(|_| Harmless::of(&properties)),
        outcome,
    }
}

/// What only follows from a property that could not be read is left out.
fn joined(
    interpretation: Interpretation,
    mut problems: Vec<Invalid>,
    mut warnings: Vec<Warning>,
) -> Result<Destination, Refused> {
    warnings.extend(interpretation.warnings);
    match interpretation.destination {
        Ok(destination) if problems.is_empty() => Ok(Destination {
            warnings,
            ..destination
        }),
        Ok(_) => Err(Refused { problems, warnings }),
        Err(invalid) => {
            let is_news = |new: &Invalid| problems.iter().all(|old| old.property != new.property);
            let news: Vec<Invalid> = invalid.into_iter().filter(is_news).collect();
            problems.extend(news);
            Err(Refused { problems, warnings })
        }
    }
}

/// The same configuration keeps its identity, so that nobody downstream starts anew.
fn kept(
    outcome: Result<Destination, Refused>,
    before: Option<&Claim>,
) -> Result<Arc<Destination>, Arc<Refused>> {
    match (outcome, before.map(|before| &before.outcome)) {
        (Ok(now), Some(Ok(before))) if now == **before => Ok(Arc::clone(before)),
        (outcome, _) => outcome.map(Arc::new).map_err(Arc::new),
    }
}
