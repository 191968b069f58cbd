//! The kind `Destination` of `destination.connectivity.api.sap/v1`.

mod definition;

pub use self::definition::{CRD_NAME, definition};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    status = "DestinationStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct DestinationSpec {
    /// The destination that is meant.
    pub destination_ref: DestinationRef,
    /// A fragment that is merged into the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment_ref: Option<FragmentRef>,
    /// A destination chain that runs with every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_ref: Option<ChainRef>,
    /// Local name of the instance that has the destination; without it, the default instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_service_instance_name: Option<String>,
    /// The Services that are made for this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// Who may connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_control: Option<AccessControl>,
    /// How requests to some destinations get their tokens; the first one that applies is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<Action>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DestinationRef {
    /// Name of the destination; `*` makes this a gateway: every request names its destination.
    pub name: String,
    /// The level that the destination is read from; without it, all levels are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

/// Where a destination or fragment is maintained.
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
    /// Name of the fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The level that the fragment is read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Whether the destination is used without the fragment where that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChainRef {
    /// Name of the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Values that the chain takes; requests may replace them.
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
    /// Port of the Services; without it, the usual one of the destination's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccessControl {
    /// Without it, the scope that the installation has by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// Who may connect to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Pods in the namespace of the Destination CR.
    #[default]
    Namespaced,
    /// Everybody in the cluster.
    ClusterWide,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    pub name: ActionName,
    /// Where the credentials for the token service are.
    pub secret_ref: SecretRef,
    /// When the action applies, any of them is enough; without any, always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Vec<Trigger>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActionName {
    OAuth2JWTBearer,
    OAuth2ClientCredentials,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key inside of the Secret.
    pub key: String,
    /// Namespace of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    pub name: TriggerName,
    /// For `exist`: properties that the destination has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_properties: Option<Vec<String>>,
    /// For `exist`: keys of labels that the destination has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_label_keys: Option<Vec<String>>,
    /// For `exactMatch`: properties or labels with their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<Match>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TriggerName {
    Exist,
    ExactMatch,
}

/// A property and its value, or the key of a label and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_property: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_label_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DestinationStatus {
    /// Whether the destination can be used; there is one condition, of type `Available`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Tenants that use the destination, in tenant mode `shared`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Tenant>>,
}

/// There is one, of type `Available`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// `True`, `False` or `Unknown`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// One word for what is the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When any of the others changed last (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_subdomain: Option<String>,
}

impl DestinationSpec {
    /// The specification of an object, or why it is not understood: the definition may be that of
    /// a newer version. Whoever watches reads objects one by one by this, so that one of them
    /// does not stand for all.
    pub fn understand(spec: Option<Value>) -> Result<Self, String> {
        let spec = spec.ok_or_else(|| "spec is missing".to_owned())?;
        serde_json::from_value(spec).map_err(|error| error.to_string())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What an API server stores, as recorded in `tests/data/manifests`.
    fn stored() -> Vec<(String, Value)> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/data/manifests/verdicts.json"
        );
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let manifests = recorded["manifests"].as_object().unwrap().clone();
        manifests
            .into_iter()
            .filter_map(|(name, verdict)| Some((name, verdict.get("object")?.clone())))
            .collect()
    }

    #[test]
    fn whatever_an_api_server_accepts_is_understood_to_the_last_field() {
        let stored = stored();
        assert!(stored.len() > 60, "{}", stored.len());
        for (name, object) in stored {
            let mut read: Value = serde_json::to_value(
                serde_json::from_value::<Destination>(with_kind(&object))
                    .unwrap_or_else(|error| panic!("{name}: {error}")),
            )
            .unwrap();
            let fields = read.as_object_mut().unwrap();
            fields.retain(|field, _| field != "apiVersion" && field != "kind");
            assert_eq!(read, object, "{name}");
        }
    }

    fn with_kind(object: &Value) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = "destination.connectivity.api.sap/v1".into();
        object["kind"] = "Destination".into();
        object
    }
}
