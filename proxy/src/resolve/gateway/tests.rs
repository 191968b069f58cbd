use proptest::prelude::*;

use super::*;
use crate::error::{self, Names, catalogue};
use crate::resolve;

const NAMES: Names<'_> = Names {
    destination: "orders",
    cr: "my-dest",
    tenant: "secrets",
    instance: "secrets",
};

type Fields<'a> = &'a [(&'static str, &'a str)];

fn fields(fields: Fields<'_>) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        (HeaderName::from_static(name), value)
    };
    fields.iter().map(field).collect()
}

/// The message that the application gets; its status is always 400.
fn message(error: Error) -> String {
    let error = error::Error::from(resolve::Error::from(error));
    assert_eq!(catalogue::entry(&error).status, 400);
    catalogue::message(&error, NAMES)
}

fn refusal(of: Fields<'_>) -> String {
    message(select(&fields(of), TenantMode::Dedicated).unwrap_err())
}

fn static_refusal(of: Fields<'_>) -> String {
    message(check_static(&fields(of), TenantMode::Dedicated).unwrap_err())
}

fn name(length: usize) -> String {
    "n".repeat(length)
}

const NAME_MISSING: &str = "'x-destination-name' header is missing but required for an endpoint exposing multiple \
                            destinations via the same Destination CR.";
const DESTINATION_CHARACTERS: &str = "The value of the header 'x-destination-name' contains characters that are not \
                                      allowed. Check the destination name restrictions in the Destination service \
                                      documentation.";
const FRAGMENT_CHARACTERS: &str = "The value of the header 'x-fragment-name' contains characters that are not \
                                   allowed. Check the fragment name restrictions in the Destination service \
                                   documentation.";
const OPTIONAL: &str = "The value of the header 'x-fragment-optional' should be \"true\" or \"false\".";
const DESTINATION_LEVELS: &str = "Destination level is invalid in the request. It should be one of the following: \
                                  provider_subaccount, provider_instance, subaccount, instance.";
const FRAGMENT_LEVELS: &str = "Fragment level is invalid in the request. It should be one of the following: \
                               provider_subaccount, provider_instance, subaccount, instance.";
const LEVEL_WITHOUT_NAME: &str =
    "'x-fragment-level' header is not supported when 'x-fragment-name' header is not provided.";
const CHAIN_WITH_LEVEL: &str =
    "'x-chain-name' header is not supported together with a destination level or a fragment level.";

const ASSERTION_TWICE: &str = "Cannot mix header 'x-client-assertion-destination-name' with headers \
                               'x-client-assertion' and 'x-client-assertion-type'.";
const ASSERTION_TYPE: &str = "\"x-client-assertion-type\" request header is required when \"x-client-assertion\" \
                              header is provided in the request";
const ASSERTION: &str = "\"x-client-assertion\" request header is required when \"x-client-assertion-type\" header is \
                         provided in the request";

fn too_long(header: &str) -> String {
    format!("The value of the header '{header}' exceeds the maximum allowed length of 200")
}

fn unsupported(header: &str) -> String {
    format!("'{header}' header is not supported by Destination service instance 'secrets'.")
}

fn only_for_gateways(header: &str) -> String {
    format!(
        "The requested endpoint is bound to a concrete destination, statically declared in the respective Destination \
         CR. '{header}' header is not supported for this endpoint. Contact the Transparent Proxy Administrator."
    )
}

#[test]
fn a_gateway_gets_the_name_of_the_destination() {
    for name in ["orders", "Orders_2.0-x", "-", "_", &name(200)] {
        let destination = select(&fields(&[("x-destination-name", name)]), TenantMode::Dedicated);
        assert_eq!(destination.unwrap().as_str(), name);
    }
    let blanks = fields(&[("x-destination-name", " orders\t")]);
    assert_eq!(select(&blanks, TenantMode::Dedicated).unwrap().as_str(), "orders");
}

#[test]
fn a_gateway_needs_a_name() {
    assert_eq!(refusal(&[]), NAME_MISSING);
    assert_eq!(refusal(&[("x-destination-name", "")]), NAME_MISSING);
    assert_eq!(refusal(&[("x-destination-name", " \t")]), NAME_MISSING);
}

#[test]
fn names_have_few_characters_and_at_most_200() {
    let destination = |value: &str| refusal(&[("x-destination-name", value)]);
    assert_eq!(destination(&name(201)), too_long("x-destination-name"));
    assert_eq!(
        destination(&"@".repeat(201)),
        too_long("x-destination-name"),
        "the length is checked first"
    );
    assert_eq!(
        destination(&"ä".repeat(200)),
        DESTINATION_CHARACTERS,
        "characters are counted, not bytes"
    );
    for value in [
        "a@provider_subaccount",
        "a/b",
        "..",
        ".a",
        "a?b",
        "a#b",
        "a%2fb",
        "a b",
        "a,b",
        "a:b",
        "*",
        "ä",
        "a\u{a0}b",
        "a\\b",
        "a\"b",
    ] {
        assert_eq!(destination(value), DESTINATION_CHARACTERS, "{value}");
    }
}

#[test]
fn fragments_are_checked_one_by_one() {
    let fragment = |value: &str| refusal(&[("x-destination-name", "a"), ("x-fragment-name", value)]);
    assert_eq!(fragment(&format!("a,{}", name(201))), too_long("x-fragment-name"));
    assert_eq!(fragment(&format!("@,{}", name(201))), too_long("x-fragment-name"));
    for value in [",", "a,", "a,,b", "a b", "a@instance", "a;b"] {
        assert_eq!(fragment(value), FRAGMENT_CHARACTERS, "{value}");
    }
    for value in ["a", "a , b", &format!("{},{}", name(200), name(200))] {
        assert_eq!(fragment(value), unsupported("x-fragment-name"));
    }
}

#[test]
fn an_empty_field_is_none() {
    for empty in [
        "x-fragment-name",
        "x-fragment-optional",
        "x-destination-level",
        "x-fragment-level",
        "x-chain-name",
        "x-chain-var-subjecttoken",
    ] {
        let fields = fields(&[("x-destination-name", "a"), (empty, " ")]);
        assert!(select(&fields, TenantMode::Dedicated).is_ok(), "{empty}");
    }
}

#[test]
fn whether_a_fragment_is_optional_is_true_or_false() {
    for value in ["True", "1", "yes", "truefalse"] {
        assert_eq!(
            refusal(&[("x-destination-name", "a"), ("x-fragment-optional", value)]),
            OPTIONAL,
            "{value}"
        );
    }
    for value in ["true", "false"] {
        let alone = fields(&[("x-destination-name", "a"), ("x-fragment-optional", value)]);
        assert!(
            select(&alone, TenantMode::Dedicated).is_ok(),
            "it says nothing without a fragment"
        );
    }
}

#[test]
fn levels_are_spelled_exactly() {
    for value in ["Subaccount", "tenant", "subaccount,instance", "a@b"] {
        assert_eq!(
            refusal(&[("x-destination-name", "a"), ("x-destination-level", value)]),
            DESTINATION_LEVELS
        );
        assert_eq!(
            refusal(&[
                ("x-destination-name", "a"),
                ("x-fragment-name", "f"),
                ("x-fragment-level", value)
            ]),
            FRAGMENT_LEVELS
        );
    }
    for value in [
        "subaccount",
        "instance",
        "provider_subaccount",
        "provider_instance",
    ] {
        assert_eq!(
            refusal(&[("x-destination-name", "a"), ("x-destination-level", value)]),
            unsupported("x-destination-level")
        );
        assert_eq!(
            refusal(&[("x-destination-name", "a"), ("x-fragment-level", value)]),
            LEVEL_WITHOUT_NAME
        );
    }
}

#[test]
fn chains_are_checked_before_they_are_refused() {
    let chain = ("x-chain-name", "com.sap.sequentialUserPropagation");
    let name = ("x-destination-name", "a");
    assert_eq!(refusal(&[name, chain]), unsupported("x-chain-name"));
    assert_eq!(
        refusal(&[name, chain, ("x-destination-level", "instance")]),
        CHAIN_WITH_LEVEL
    );
    assert_eq!(
        refusal(&[name, ("x-chain-var-usertoken", "t")]),
        "'x-chain-var-usertoken' header is not supported when no chain name is provided."
    );
    assert_eq!(
        static_refusal(&[chain, ("x-chain-var-usertoken", "t")]),
        unsupported("x-chain-name")
    );
    assert_eq!(
        static_refusal(&[("x-chain-var-usertoken", "t")]),
        "'x-chain-var-usertoken' header is not supported when no chain name is provided."
    );
}

/// Everything is wrong at first, and is put right in the order of the answers.
#[test]
fn the_first_failing_check_answers() {
    let too_long_name = name(201);
    let mut given = vec![
        ("x-destination-name", ""),
        ("x-fragment-name", &*too_long_name),
        ("x-fragment-optional", "maybe"),
        ("x-destination-level", "top"),
        ("x-fragment-level", "bottom"),
        ("x-chain-name", "chain"),
        ("x-client-assertion", "jwt"),
        ("x-client-assertion-destination-name", "idp"),
    ];
    let steps = [
        ("x-destination-name", &*too_long_name, NAME_MISSING.to_owned()),
        ("x-destination-name", "a/b", too_long("x-destination-name")),
        ("x-destination-name", "a", DESTINATION_CHARACTERS.to_owned()),
        ("x-fragment-name", "a/b", too_long("x-fragment-name")),
        ("x-fragment-name", "", FRAGMENT_CHARACTERS.to_owned()),
        ("x-fragment-optional", "true", OPTIONAL.to_owned()),
        ("x-destination-level", "instance", DESTINATION_LEVELS.to_owned()),
        ("x-fragment-level", "instance", FRAGMENT_LEVELS.to_owned()),
        ("x-fragment-name", "f", LEVEL_WITHOUT_NAME.to_owned()),
        ("x-chain-name", "", CHAIN_WITH_LEVEL.to_owned()),
        (
            "x-client-assertion-destination-name",
            "",
            ASSERTION_TWICE.to_owned(),
        ),
        ("x-client-assertion", "", ASSERTION_TYPE.to_owned()),
        ("x-destination-level", "", unsupported("x-destination-level")),
        ("x-fragment-name", "", unsupported("x-fragment-name")),
        ("x-fragment-level", "", LEVEL_WITHOUT_NAME.to_owned()),
    ];
    for (field, cure, answer) in steps {
        assert_eq!(refusal(&given), answer);
        let field = given.iter_mut().find(|(name, _)| *name == field).unwrap();
        field.1 = cure;
    }
    assert!(select(&fields(&given), TenantMode::Dedicated).is_ok());
}

#[test]
fn what_the_custom_resource_says_the_request_must_not() {
    let five = [
        ("x-destination-name", "a"),
        ("x-fragment-optional", "true"),
        ("x-fragment-name", "f"),
        ("x-destination-level", "instance"),
        ("x-fragment-level", "instance"),
    ];
    for (number, (field, _)) in five.iter().enumerate() {
        assert_eq!(static_refusal(&five[number..]), only_for_gateways(field));
        assert_eq!(static_refusal(&five[number..=number]), only_for_gateways(field));
    }
}

#[test]
fn an_empty_name_takes_the_endpoint_for_a_gateway_too() {
    for field in ["x-destination-name", "x-fragment-name"] {
        assert_eq!(static_refusal(&[(field, "")]), only_for_gateways(field));
    }
    for field in [
        "x-fragment-optional",
        "x-destination-level",
        "x-fragment-level",
        "x-chain-name",
    ] {
        let empty = fields(&[(field, "")]);
        assert_eq!(check_static(&empty, TenantMode::Dedicated), Ok(()), "{field}");
    }
}

#[test]
fn a_client_assertion_is_whole_and_alone() {
    const OF_ANOTHER: (&str, &str) = ("x-client-assertion-destination-name", "idp");
    let (assertion, kind) = (
        ("x-client-assertion", "jwt"),
        ("x-client-assertion-type", "urn:x"),
    );
    let cases: [(Fields<'_>, Option<&str>); 8] = [
        (&[assertion], Some(ASSERTION_TYPE)),
        (&[kind], Some(ASSERTION)),
        (
            &[assertion, ("x-client-assertion-type", " ")],
            Some(ASSERTION_TYPE),
        ),
        (&[OF_ANOTHER, assertion], Some(ASSERTION_TWICE)),
        (&[OF_ANOTHER, kind], Some(ASSERTION_TWICE)),
        (&[OF_ANOTHER, assertion, kind], Some(ASSERTION_TWICE)),
        (&[assertion, kind], None),
        (&[OF_ANOTHER, ("x-client-assertion", "")], None),
    ];
    for (given, answer) in cases {
        let checked = check_static(&fields(given), TenantMode::Dedicated).map_err(message);
        assert_eq!(checked.err().as_deref(), answer, "{given:?}");
        let given = [given, &[("x-destination-name", "orders")]].concat();
        let selected = select(&fields(&given), TenantMode::Dedicated).map_err(message);
        assert_eq!(selected.err().as_deref(), answer, "{given:?}");
    }
}

#[test]
fn requests_do_not_decide_about_requests_for_tokens() {
    const TENANT: &str = "'x-token-service-tenant' request header is not supported when 'tokenServiceURLType' \
                          property in the destination is of type Dedicated.";
    let refusal = |of: Fields<'_>| check_token_request(&fields(of)).map_err(message).err();
    let (tenant, assertion) = (("x-token-service-tenant", "t"), ("x-client-assertion", "jwt"));
    assert_eq!(refusal(&[tenant, assertion]).as_deref(), Some(TENANT));
    assert_eq!(refusal(&[assertion]), Some(unsupported("x-client-assertion")));
    let of_another = "x-client-assertion-destination-name";
    assert_eq!(refusal(&[(of_another, "idp")]), Some(unsupported(of_another)));
    assert_eq!(
        refusal(&[("x-token-service-tenant", ""), ("x-tenant-id", "t")]),
        None
    );
}

#[test]
fn other_fields_are_nobodys_business() {
    let given = fields(&[
        ("host", "my-dest"),
        ("authorization", "Bearer t"),
        ("x-destination", "a"),
        ("x-fragment", "a"),
        ("x-token-service-tenant", "t"),
        ("x-request-id", "1"),
    ]);
    assert_eq!(check_static(&given, TenantMode::Dedicated), Ok(()));
}

#[test]
fn in_mode_dedicated_the_tenant_does_not_matter() {
    let mut given = vec![("x-tenant-id", "t"), ("x-tenant-subdomain", "s")];
    assert_eq!(check_static(&fields(&given), TenantMode::Dedicated), Ok(()));
    given.push(("x-destination-name", "a"));
    assert!(select(&fields(&given), TenantMode::Dedicated).is_ok());
}

#[test]
fn in_mode_shared_there_is_exactly_one_tenant() {
    const NONE: &str = "In multi-tenant operational mode, either 'x-tenant-id' or 'x-tenant-subdomain' header is \
                        mandatory to be provided.";
    const BOTH: &str =
        "Both 'x-tenant-id' and 'x-tenant-subdomain' headers are passed. Only one should be provided.";
    let (id, subdomain) = (("x-tenant-id", "t"), ("x-tenant-subdomain", "s"));
    let cases: [(Fields<'_>, Option<&str>); 5] = [
        (&[], Some(NONE)),
        (&[("x-tenant-id", " "), ("x-tenant-subdomain", "")], Some(NONE)),
        (&[id, subdomain], Some(BOTH)),
        (&[id], None),
        (&[subdomain, ("x-tenant-id", "")], None),
    ];
    for (given, answer) in cases {
        let checked = check_static(&fields(given), TenantMode::Shared).map_err(message);
        assert_eq!(checked.err().as_deref(), answer);
        let selected = select(&fields(given), TenantMode::Shared).map_err(message);
        assert_eq!(selected.unwrap_err(), answer.unwrap_or(NAME_MISSING));
    }
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    let names = prop::sample::select(vec![
        "x-destination-name",
        "x-destination-level",
        "x-fragment-name",
        "x-fragment-level",
        "x-fragment-optional",
        "x-chain-name",
        "x-chain-var-a",
        "x-tenant-id",
        "x-tenant-subdomain",
        "accept",
    ]);
    let values = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..250),
        "[A-Za-z0-9._@/,-]{0,12}".prop_map(String::into_bytes),
        Just(b"instance".to_vec()),
        Just(b"true".to_vec()),
    ];
    prop::collection::vec((names, values), 0..8).prop_map(|fields| {
        let field = |(name, value): (&'static str, Vec<u8>)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::from_bytes(&value).ok()?,
            ))
        };
        fields.into_iter().filter_map(field).collect()
    })
}

proptest! {
    #[test]
    fn whatever_the_fields_are_a_selected_name_is_harmless(headers in header_map(), shared in any::<bool>()) {
        let mode = if shared { TenantMode::Shared } else { TenantMode::Dedicated };
        if let Ok(destination) = select(&headers, mode) {
            let name = destination.as_str();
            prop_assert!((1..=200).contains(&name.len()) && !name.starts_with('.'));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)), "{name}");
            let written = headers["x-destination-name"].as_bytes();
            prop_assert_eq!(name.as_bytes(), written.trim_ascii());
        }
    }

    #[test]
    fn a_static_endpoint_never_lets_a_selection_pass(headers in header_map()) {
        if check_static(&headers, TenantMode::Dedicated).is_ok() {
            prop_assert!(!headers.contains_key("x-destination-name") && !headers.contains_key("x-fragment-name"));
        }
    }
}
