//! Rows of requests that find no destination.

use http::StatusCode;

use super::{BAD_REQUEST, CONNECT_FAILED, Entry, Origin};
use crate::resolve::check::Obstacle;
use crate::resolve::{self, gateway};

const RESOLVE: Entry = Entry {
    step: "resolve",
    ..CONNECT_FAILED
};

pub(super) fn entry(error: &resolve::Error) -> Entry {
    use resolve::Error as E;
    match error {
        E::NoDestination => Entry {
            id: "no_destination",
            status: StatusCode::NOT_FOUND,
            message: "No destination is configured for this endpoint.",
            remedy: "Check that the destination exists and is valid.",
            ..RESOLVE
        },
        E::CustomResource(obstacle) => custom_resource_entry(*obstacle),
        E::Request(error) => gateway_entry(error),
        E::NotFound => Entry {
            id: "destination_not_found",
            origin: Origin::DestinationService,
            message: "Destination '<name>' referred in Destination CR '<cr>' is not found in tenant '<tenant>'. \
                      Inspect the Destination CR or contact the Destination Administrator.",
            internal_code: Some(404),
            remedy: "Check spec.destinationRef.name of the Destination CR, and the label and the allowed namespaces of the Secret.",
            ..RESOLVE
        },
        E::NotFoundByGateway => Entry {
            id: "destination_not_found_by_gateway",
            origin: Origin::DestinationService,
            message: "Destination '<name>' not found in tenant '<tenant>'. Contact the Destination Administrator.",
            internal_code: Some(404),
            remedy: "Check x-destination-name of the request, and the label and the allowed namespaces of the Secret.",
            ..RESOLVE
        },
        E::InvalidConfiguration(_) => Entry {
            id: "destination_invalid",
            remedy: "Correct the properties of the destination that the log names.",
            ..INVALID_CONFIGURATION
        },
        E::NotHttp => Entry {
            id: "destination_not_http",
            remedy: "Use a destination of Type HTTP; others need a Destination CR of their own.",
            ..INVALID_CONFIGURATION
        },
        E::NotAvailable => Entry {
            id: "destinations_not_available",
            origin: Origin::DestinationService,
            message: "Destination service is currently not available. Retry the request later.",
            remedy: "Check that the proxy reaches the API server and may list Secrets.",
            ..RESOLVE
        },
    }
}

pub(super) const INVALID_CONFIGURATION: Entry = Entry {
    origin: Origin::DestinationService,
    message: "Received invalid configuration from Destination Service, requested via destination '<name>'.",
    ..RESOLVE
};

fn custom_resource_entry(obstacle: Obstacle) -> Entry {
    use Obstacle as O;
    match obstacle {
        O::Instance => Entry {
            id: "instance_not_configured",
            message: "The Destination service instance name in the Destination CR '<cr>' is not configured as expected.",
            remedy: "Correct spec.destinationServiceInstanceName of the Destination CR, or the default instance of the proxy.",
            ..RESOLVE
        },
        O::FragmentOfGateway
        | O::LevelOfGateway
        | O::Annotation
        | O::SharedTenants
        | O::Actions
        | O::Chain
        | O::Fragment
        | O::Level => Entry {
            id: "custom_resource_not_supported",
            message: "<reason> of Destination CR '<cr>' is not supported by Destination service instance '<instance>'.",
            remedy: "Inspect the condition of the Destination CR.",
            ..RESOLVE
        },
    }
}

fn gateway_entry(error: &gateway::Error) -> Entry {
    use gateway::Error as E;
    let (id, message) = match error {
        E::TenantMissing => (
            "tenant_missing",
            "In multi-tenant operational mode, either 'x-tenant-id' or 'x-tenant-subdomain' header is mandatory to be provided.",
        ),
        E::TenantTwice => (
            "tenant_twice",
            "Both 'x-tenant-id' and 'x-tenant-subdomain' headers are passed. Only one should be provided.",
        ),
        E::OnlyForGateways(_) => (
            "header_only_for_gateways",
            "The requested endpoint is bound to a concrete destination, statically declared in the respective Destination CR. \
             '<header>' header is not supported for this endpoint. Contact the Transparent Proxy Administrator.",
        ),
        E::NameMissing => (
            "destination_name_missing",
            "'x-destination-name' header is missing but required for an endpoint exposing multiple destinations via the same Destination CR.",
        ),
        E::TooLong(_) => (
            "name_too_long",
            "The value of the header '<header>' exceeds the maximum allowed length of 200",
        ),
        E::DestinationCharacters => (
            "destination_name_invalid",
            "The value of the header 'x-destination-name' contains characters that are not allowed. \
             Check the destination name restrictions in the Destination service documentation.",
        ),
        E::FragmentCharacters => (
            "fragment_name_invalid",
            "The value of the header 'x-fragment-name' contains characters that are not allowed. \
             Check the fragment name restrictions in the Destination service documentation.",
        ),
        E::FragmentOptional => (
            "fragment_optional_invalid",
            "The value of the header 'x-fragment-optional' should be \"true\" or \"false\".",
        ),
        E::DestinationLevel => (
            "destination_level_invalid",
            "Destination level is invalid in the request. It should be one of the following: \
             provider_subaccount, provider_instance, subaccount, instance.",
        ),
        E::FragmentLevel => (
            "fragment_level_invalid",
            "Fragment level is invalid in the request. It should be one of the following: \
             provider_subaccount, provider_instance, subaccount, instance.",
        ),
        E::FragmentLevelWithoutName => (
            "fragment_level_without_name",
            "'x-fragment-level' header is not supported when 'x-fragment-name' header is not provided.",
        ),
        E::ChainWithLevel => (
            "chain_with_level",
            "'x-chain-name' header is not supported together with a destination level or a fragment level.",
        ),
        E::ChainVariableWithoutName(_) => (
            "chain_variable_without_name",
            "'<header>' header is not supported when no chain name is provided.",
        ),
        E::ClientAssertionTwice => {
            return Entry {
                origin: Origin::DestinationService,
                ..request_entry(
                    "client_assertion_twice",
                    "Cannot mix header 'x-client-assertion-destination-name' with headers 'x-client-assertion' and \
                     'x-client-assertion-type'.",
                )
            };
        }
        E::ClientAssertionMissing => (
            "client_assertion_missing",
            "\"x-client-assertion\" request header is required when \"x-client-assertion-type\" header is provided in \
             the request",
        ),
        E::ClientAssertionTypeMissing => (
            "client_assertion_type_missing",
            "\"x-client-assertion-type\" request header is required when \"x-client-assertion\" header is provided in \
             the request",
        ),
        E::TokenServiceTenant => (
            "token_service_tenant_not_supported",
            "'x-token-service-tenant' request header is not supported when 'tokenServiceURLType' property in the \
             destination is of type Dedicated.",
        ),
        E::NotSupported(_) => (
            "header_not_supported",
            "'<header>' header is not supported by Destination service instance '<instance>'.",
        ),
    };
    request_entry(id, message)
}

fn request_entry(id: &'static str, message: &'static str) -> Entry {
    Entry {
        id,
        message,
        step: "resolve",
        ..BAD_REQUEST
    }
}
