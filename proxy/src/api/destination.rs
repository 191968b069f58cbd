//! The kind `Destination` of `destination.connectivity.api.sap/v1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::kubernetes::Scope;

/// `spec.destinationRef.name` of a gateway: which destination is meant is asked with every request.
pub const ANY_DESTINATION: &str = "*";

#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "destination.connectivity.api.sap",
    version = "v1",
    kind = "Destination",
    plural = "destinations",
    singular = "destination",
    shortname = "dst",
    namespaced,
    status = "DestinationStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct DestinationSpec {
    pub destination_ref: DestinationRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment_ref: Option<FragmentRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_ref: Option<ChainRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_service_instance_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_control: Option<AccessControl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<Action>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DestinationRef {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Subaccount,
    Instance,
    ProviderSubaccount,
    ProviderInstance,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FragmentRef {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChainRef {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables: Option<Vec<ChainVariable>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChainVariable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccessControl {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    pub name: String,
    pub secret_ref: SecretRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    pub name: String,
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DestinationStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Tenant>>,
}

/// There is one, of type `Available`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_subdomain: Option<String>,
}

impl Destination {
    /// Which destination is meant is asked with every request.
    pub fn is_gateway(&self) -> bool {
        self.spec.destination_ref.name == ANY_DESTINATION
    }

    /// Who may connect, given what holds for those that do not say.
    pub fn scope(&self, default: Scope) -> Scope {
        let own = self.spec.access_control.as_ref();
        own.and_then(|control| control.scope).unwrap_or(default)
    }

    /// The fragment, where one is named; an empty name is none.
    pub fn fragment(&self) -> Option<&str> {
        let fragment = self.spec.fragment_ref.as_ref()?;
        fragment.name.as_deref().filter(|name| !name.is_empty())
    }

    /// The instance that it names itself; an empty name is none.
    pub fn instance(&self) -> Option<&str> {
        let name = self.spec.destination_service_instance_name.as_deref();
        name.filter(|name| !name.is_empty())
    }
}
