use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::api::condition::Reason;
use crate::api::destination::{
    Action, ActionName, ChainRef, ChainVariable, DestinationRef, DestinationSpec, FragmentRef, Level,
    SecretRef, ServiceSpec,
};
use crate::api::labels;
use crate::resolve::source::secrets::{Query, store};

const NO: &str = "Technical connectivity is not configured. ";
const JKS: &[u8] = include_bytes!("../keystore/fixtures/store.jks");

fn cr(destination: &str) -> api::Destination {
    let spec = DestinationSpec {
        destination_ref: DestinationRef {
            name: destination.to_owned(),
            level: None,
        },
        ..DestinationSpec::default()
    };
    api::Destination::new("my-dest", spec)
}

fn gateway() -> api::Destination {
    cr(api::ANY_DESTINATION)
}

fn fragment(name: Option<&str>) -> FragmentRef {
    FragmentRef {
        name: name.map(str::to_owned),
        optional: Some(false),
        level: None,
    }
}

type Properties<'a> = &'a [(&'a str, &'a str)];

/// The Secret `orders` with these data keys, as it is found.
fn found(properties: Properties<'_>) -> Result<Arc<Destination>, FindError> {
    let data = properties.iter().map(|(key, value)| {
        let value = if *value == "JKS" { JKS } else { value.as_bytes() };
        ((*key).to_owned(), ByteString(value.to_vec()))
    });
    let secret = Secret {
        data: Some(data.collect()),
        metadata: ObjectMeta {
            name: Some("orders".to_owned()),
            namespace: Some("proxy".to_owned()),
            labels: Some(BTreeMap::from([(labels::DESTINATION.to_owned(), String::new())])),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    let (mut writer, reader) = store(["proxy".to_owned()]);
    writer.init("proxy");
    writer.init_apply(secret);
    writer.init_done("proxy");
    reader.find(&Query {
        destination: "orders",
        cr_namespace: "shop",
    })
}

fn refused(cr: &api::Destination, found: Result<Arc<Destination>, FindError>) -> Verdict {
    match check(cr, found) {
        Err(NotConfigured::Refused(verdict)) => verdict,
        other => panic!("it should be refused: {other:?}"),
    }
}

#[test]
fn a_good_destination_says_its_protocol_and_port() {
    let cases: [(Properties<'_>, Kind, u16); 4] = [
        (&[("Type", "HTTP"), ("URL", "https://h")], Kind::Http, 80),
        (
            &[("Type", "HTTP"), ("URL", "https://h"), ("service.port", "8080")],
            Kind::Http,
            8080,
        ),
        (&[("Type", "TCP"), ("Address", "h:1")], Kind::Tcp, 20_004),
        (
            &[("Type", "TCP"), ("Address", "h:1"), ("service.port", "5432")],
            Kind::Tcp,
            5432,
        ),
    ];
    for (properties, kind, default_port) in cases {
        let configured = check(&cr("orders"), found(properties)).unwrap();
        assert_eq!(configured, Configured { kind, default_port });
    }
}

#[test]
fn the_port_of_the_custom_resource_comes_first() {
    let mut cr = cr("orders");
    let configured = check(
        &cr,
        found(&[("Type", "TCP"), ("Address", "h:1"), ("service.port", "5432")]),
    )
    .unwrap();
    assert_eq!(configured.port(&cr), 5432);
    cr.spec.service = Some(ServiceSpec { port: Some(6000) });
    assert_eq!(configured.port(&cr), 6000);
    assert_eq!(Configured::GATEWAY.port(&gateway()), 80);
}

#[test]
fn before_the_source_is_read_nothing_is_said() {
    assert_eq!(
        check(&cr("orders"), Err(FindError::NotLoaded)),
        Err(NotConfigured::NotLoaded)
    );
}

#[test]
fn a_destination_that_does_not_exist_is_named() {
    let verdict = refused(&cr("orders"), Err(FindError::NotFound));
    assert_eq!(verdict.reason, Reason::DestinationNotFound);
    assert_eq!(
        verdict.message,
        format!("{NO}Destination 'orders' is not found in Destination service instance 'secrets'.")
    );
}

/// Properties, the reason, the reason for Destination CRs with a fragment, the message after the name.
type Case = (
    &'static [(&'static str, &'static str)],
    Reason,
    Reason,
    &'static str,
);

const TLS: (&str, &str) = ("URL", "https://h");
const PLAIN: (&str, &str) = ("URL", "http://h");
const HTTP: (&str, &str) = ("Type", "HTTP");
const TCP: (&str, &str) = ("Type", "TCP");

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use Reason as R;
    vec![
        (&[TLS], R::TypeNotSupported, R::TypeNotSupported,
         "Type is missing; set it to HTTP or TCP"),
        (&[("Type", "RFC")], R::TypeNotSupported, R::TypeNotSupported,
         "Type is \"RFC\", which is not supported yet; use a destination of type HTTP or TCP"),
        (&[("Type", "hunter2")], R::TypeNotSupported, R::TypeNotSupported,
         "Type is [hidden], which is unknown; use HTTP or TCP"),
        (&[("Type", "LDAP")], R::ConfigurationFailed, R::ConfigurationFailed,
         "Type is \"LDAP\", which is not supported yet; use a destination of type HTTP or TCP"),
        (&[("Type", "mail")], R::ConfigurationFailed, R::ConfigurationFailed,
         "Type is \"MAIL\", which is not supported yet; use a destination of type HTTP or TCP"),
        (&[HTTP, TLS, ("ProxyType", "PrivateLink")], R::ProxyTypeNotSupported, R::WithFragmentProxyTypeNotSupported,
         "ProxyType is \"PrivateLink\", which is not supported yet; use Internet"),
        (&[TCP, ("Address", "h:1"), ("ProxyType", "hunter2")], R::ProxyTypeNotSupported, R::WithFragmentProxyTypeNotSupported,
         "ProxyType is [hidden], which is unknown; use Internet"),
        (&[HTTP, TLS, ("ProxyType", "OnPremise")], R::ConfigurationFailed, R::ConfigurationFailed,
         "ProxyType is \"OnPremise\", which is not supported yet; use Internet"),
        (&[HTTP], R::UrlNotSupported, R::WithFragmentUrlNotSupported,
         "URL is missing; set it to the target, like https://host:port/path"),
        (&[HTTP, ("URL", " ")], R::UrlNotSupported, R::WithFragmentUrlNotSupported,
         "URL is empty; set it to the target, like https://host:port/path"),
        (&[HTTP, ("URL", "hunter2://h")], R::UrlNotSupported, R::WithFragmentUrlNotSupported,
         "URL starts with [hidden], but only http:// and https:// are supported"),
        (&[HTTP, ("URL", "https://me:hunter2@h")], R::UrlNotSupported, R::WithFragmentUrlNotSupported,
         "URL has a user or password in front of the host; remove it and set User and Password instead"),
        (&[TCP], R::TcpAddressNotSupported, R::WithFragmentTcpAddressNotSupported,
         "Address is missing; set it to the target, like tcp://host:port"),
        (&[TCP, ("Address", "tls://h:1")], R::TcpAddressNotSupported, R::WithFragmentTcpAddressNotSupported,
         "Address starts with [hidden], but only tcp:// is supported; write it like tcp://host:port"),
        (&[TCP, ("Address", "h")], R::TcpAddressNotSupported, R::WithFragmentTcpAddressNotSupported,
         "Address has no port; write it like tcp://host:port"),
        (&[HTTP, ("URL", "http://localhost")], R::LoopbackUrlNotSupported, R::WithFragmentLoopbackUrlNotSupported,
         "URL leads to the proxy's own loopback interface; write the host that runs the target system"),
        (&[TCP, ("Address", "[::1]:1")], R::LoopbackUrlNotSupported, R::WithFragmentLoopbackUrlNotSupported,
         "Address leads to the proxy's own loopback interface; write the host that runs the target system"),
        (&[HTTP, PLAIN, ("KeyStoreLocation", "a.p12")], R::HttpUrlWithStoreNotSupported, R::HttpUrlWithStoreNotSupported,
         "KeyStoreLocation is only possible with an https:// URL, but URL is not https://"),
        (&[HTTP, PLAIN, ("TrustStoreLocation", "a.crt")], R::HttpUrlWithStoreNotSupported, R::HttpUrlWithStoreNotSupported,
         "TrustStoreLocation is only possible with an https:// URL, but URL is not https://"),
        (&[HTTP, TLS, ("Authentication", "ClientCertificateAuthentication")], R::KeyStoreInvalid, R::KeyStoreInvalid,
         "KeyStoreLocation is missing; name a key of the Secret that holds the client certificate and its key"),
        (&[HTTP, TLS, ("Authentication", "ClientCertificateAuthentication"), ("KeyStoreLocation", "hunter2")], R::KeyStoreInvalid, R::KeyStoreInvalid,
         "KeyStoreLocation names a key that the Secret does not have; add the store to the Secret under that name"),
        (&[HTTP, TLS, ("Authentication", "ClientCertificateAuthentication"), ("KeyStoreLocation", "a.jks"), ("a.jks", "JKS")], R::KeyStoreInvalid, R::KeyStoreInvalid,
         "KeyStoreLocation names a store that cannot be used: it is a Java key store (JKS); convert it with \"keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype pkcs12\""),
        (&[HTTP, TLS, ("TrustStoreLocation", "a.jks"), ("a.jks", "JKS")], R::TrustStoreInvalid, R::TrustStoreInvalid,
         "TrustStoreLocation names a store that cannot be used: it is a Java key store (JKS); convert it with \"keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype pkcs12\""),
        (&[HTTP, TLS, ("Authentication", "principalpropagation")], R::ConfigurationFailed, R::ConfigurationFailed,
         "Authentication is \"PrincipalPropagation\", which is not supported yet; use NoAuthentication, BasicAuthentication, ClientCertificateAuthentication, OAuth2ClientCredentials or OAuth2Password"),
        (&[HTTP, TLS, ("Authentication", "BasicAuthentication"), ("User", "me")], R::ConfigurationFailed, R::ConfigurationFailed,
         "Password is missing; BasicAuthentication needs it"),
        (&[HTTP, TLS, ("Authentication", "OAuth2ClientCredentials"), ("clientId", "c"), ("tokenServiceURL", "https://localhost")], R::ConfigurationFailed, R::ConfigurationFailed,
         "tokenServiceURL leads to the proxy's own loopback interface; write the host that runs the target system"),
        (&[("a.json", "{")], R::ConfigurationFailed, R::ConfigurationFailed,
         "a.json is not valid JSON, line 1, column 1: EOF while parsing an object; check quotes, commas and brackets here and in the line above"),
    ]
}

#[test]
fn every_reason_has_its_message() {
    for (properties, reason, with_fragment, message) in cases() {
        let message = format!("{NO}Destination 'orders': {message}.");
        let mut cr = cr("orders");
        assert_eq!(
            refused(&cr, found(properties)),
            verdict(reason, &message),
            "{properties:?}"
        );
        cr.spec.fragment_ref = Some(fragment(Some("f")));
        assert_eq!(
            refused(&cr, found(properties)),
            verdict(with_fragment, &message),
            "{properties:?}"
        );
    }
}

fn verdict(reason: Reason, message: &str) -> Verdict {
    Verdict {
        status: false,
        reason,
        message: message.to_owned(),
    }
}

#[test]
fn the_first_problem_in_the_documented_order_is_told() {
    let mut properties = vec![
        HTTP,
        ("ProxyType", "PrivateLink"),
        ("URL", "ftp://h"),
        ("KeyStoreLocation", "nothing"),
        ("TrustStoreLocation", "nothing"),
        ("Authentication", "ClientCertificateAuthentication"),
        ("service.port", "0"),
    ];
    let steps = [
        (("ProxyType", "Internet"), Reason::ProxyTypeNotSupported),
        (("URL", "http://localhost"), Reason::UrlNotSupported),
        (("URL", "http://h"), Reason::LoopbackUrlNotSupported),
        (("URL", "https://h"), Reason::HttpUrlWithStoreNotSupported),
        (("Authentication", "NoAuthentication"), Reason::KeyStoreInvalid),
        (("TrustStoreLocation", ""), Reason::TrustStoreInvalid),
        (("service.port", "80"), Reason::ConfigurationFailed),
    ];
    for ((property, cure), reason) in steps {
        assert_eq!(refused(&cr("orders"), found(&properties)).reason, reason);
        let property = properties.iter_mut().find(|(name, _)| *name == property).unwrap();
        property.1 = cure;
    }
    assert!(check(&cr("orders"), found(&properties)).is_ok());
}

fn shared() -> File {
    File {
        tenant_mode: TenantMode::Shared,
        ..File::default()
    }
}

fn with_default(instance: &str) -> File {
    File {
        default_instance_name: Some(instance.to_owned()),
        ..File::default()
    }
}

/// Reason and message of the verdict, if there is one.
type Told = Option<(Reason, String)>;

fn tell(cr: &api::Destination, config: &File) -> Told {
    let name = cr.metadata.name.as_deref().unwrap_or_default();
    let verdict = Obstacle::of(cr, config)?.verdict(name);
    Some((verdict.reason, verdict.message))
}

fn failed(message: &str) -> (Reason, String) {
    (Reason::ConfigurationFailed, format!("{NO}{message}"))
}

fn not_in_secrets(what: &str) -> (Reason, String) {
    failed(&format!(
        "{what} is not supported by Destination service instance 'secrets'."
    ))
}

#[test]
fn a_plain_custom_resource_has_nothing_against_it() {
    for cr in [cr("orders"), gateway()] {
        assert_eq!(tell(&cr, &File::default()), None);
        assert_eq!(tell(&cr, &with_default("")), None);
        assert_eq!(tell(&cr, &with_default("secrets")), None);
    }
}

#[test]
fn parts_that_say_nothing_are_no_obstacle() {
    let mut cr = cr("orders");
    cr.spec.fragment_ref = Some(fragment(Some("")));
    cr.spec.chain_ref = Some(ChainRef {
        name: None,
        variables: Some(vec![ChainVariable::default()]),
    });
    cr.spec.actions = Some(Vec::new());
    cr.spec.destination_service_instance_name = Some(String::new());
    cr.metadata.annotations = Some(BTreeMap::from([(
        TENANT_SUBDOMAINS.to_owned(),
        "nonsense".to_owned(),
    )]));
    assert_eq!(tell(&cr, &File::default()), None);
    let mut gateway = gateway();
    gateway.spec.fragment_ref = Some(fragment(None));
    assert_eq!(tell(&gateway, &File::default()), None);
}

#[test]
fn an_instance_that_is_not_configured_is_told() {
    let sentence = "The Destination service instance name in the Destination CR 'my-dest' is not configured as expected.";
    let mut cr = cr("orders");
    assert_eq!(tell(&cr, &with_default("other")), Some(failed(sentence)));
    cr.spec.destination_service_instance_name = Some("secrets".to_owned());
    assert_eq!(tell(&cr, &with_default("other")), None);
    cr.spec.destination_service_instance_name = Some("other".to_owned());
    assert_eq!(tell(&cr, &File::default()), Some(failed(sentence)));
}

#[test]
fn what_secrets_do_not_have_is_told() {
    let mut with_level = cr("orders");
    with_level.spec.destination_ref.level = Some(Level::Subaccount);
    assert_eq!(
        tell(&with_level, &File::default()),
        Some(not_in_secrets("'spec.destinationRef.level'"))
    );

    let mut with_fragment = cr("orders");
    with_fragment.spec.fragment_ref = Some(fragment(Some("f")));
    assert_eq!(
        tell(&with_fragment, &File::default()),
        Some(not_in_secrets("'spec.fragmentRef'"))
    );

    let mut with_actions = cr("orders");
    with_actions.spec.actions = Some(vec![Action {
        name: ActionName::OAuth2JWTBearer,
        secret_ref: SecretRef {
            name: "s".to_owned(),
            key: "k".to_owned(),
            namespace: None,
        },
        triggers: None,
    }]);
    assert_eq!(
        tell(&with_actions, &File::default()),
        Some(not_in_secrets("'spec.actions'"))
    );

    for mut with_chain in [cr("orders"), gateway()] {
        with_chain.spec.chain_ref = Some(ChainRef {
            name: Some("c".to_owned()),
            variables: None,
        });
        assert_eq!(
            tell(&with_chain, &File::default()),
            Some(not_in_secrets("'spec.chainRef'"))
        );
    }
}

#[test]
fn a_gateway_names_neither_fragment_nor_level() {
    let sentence = |what: &str| {
        format!(
            "{NO}Static declaration of a {what} is not supported for dynamic destination custom resources."
        )
    };
    let mut gateway = gateway();
    gateway.spec.destination_service_instance_name = Some("other".to_owned());
    gateway.spec.destination_ref.level = Some(Level::Instance);
    let level = Some((Reason::ConfigurationFailed, sentence("destination level")));
    assert_eq!(tell(&gateway, &File::default()), level);
    gateway.spec.fragment_ref = Some(fragment(Some("f")));
    let fragment = Some((Reason::FragmentSpecificationNotSupported, sentence("fragment")));
    assert_eq!(tell(&gateway, &File::default()), fragment);
}

#[test]
fn secrets_have_no_tenants() {
    let mut cr = cr("orders");
    assert_eq!(
        tell(&cr, &shared()),
        Some(not_in_secrets("'config.tenantMode: shared'"))
    );
    for annotation in [r#"["acme"]"#, "[]"] {
        let annotation = (TENANT_SUBDOMAINS.to_owned(), annotation.to_owned());
        cr.metadata.annotations = Some(BTreeMap::from([annotation]));
        assert_eq!(
            tell(&cr, &shared()),
            Some(not_in_secrets("'config.tenantMode: shared'"))
        );
    }
    let invalid =
        format!("{NO}\"transparent-proxy.connectivity.api.sap/tenant-subdomains\" annotation is invalid");
    for annotation in ["", "acme", "{}", "[1]", r#"["acme", ""]"#, r#""acme""#] {
        let annotation = (TENANT_SUBDOMAINS.to_owned(), annotation.to_owned());
        cr.metadata.annotations = Some(BTreeMap::from([annotation]));
        assert_eq!(
            tell(&cr, &shared()),
            Some((Reason::MultitenancyAnnotationInvalid, invalid.clone()))
        );
    }
}
