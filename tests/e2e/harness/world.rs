//! What most scenarios share: an installation, applications on both nodes, servers outside.

use std::sync::OnceLock;

use serde_json::json;

use super::cluster::Cluster;
use super::destination::Destination;
use super::installation::Installation;
use super::outside::{EchoServer, HttpServer};
use super::pod::Pod;

pub const USER: &str = "ada";
pub const PASSWORD: &str = "s3cr3t-e2e";
/// base64 of `ada:s3cr3t-e2e`
pub const AUTHORIZATION: &str = "Basic YWRhOnMzY3IzdC1lMmU=";

pub const INSTALLATION: &str = "transparent-proxy";
/// Namespace of the applications that have destinations.
pub const SHOP: &str = "shop";
/// And of those that have none.
pub const STRANGERS: &str = "strangers";

pub struct World {
    pub cluster: Cluster,
    servers: OnceLock<Servers>,
}

/// Outside of the cluster.
pub struct Servers {
    /// Demands `ada`'s password.
    pub catalog: HttpServer,
    /// Demands nothing.
    pub news: HttpServer,
    pub echo: EchoServer,
}

/// A pod per node.
pub type OnBothNodes<'a> = [Pod<'a>; 2];

impl World {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            servers: OnceLock::new(),
        }
    }

    pub fn installation(&self) -> Installation<'_> {
        Installation::of(&self.cluster, INSTALLATION)
    }

    pub fn servers(&self) -> &Servers {
        self.servers.get_or_init(|| {
            let outside = self.cluster.outside();
            Servers {
                catalog: outside.http("catalog.example.test", AUTHORIZATION),
                news: outside.http("news.example.test", ""),
                echo: outside.echo(),
            }
        })
    }

    /// Namespaces, and in each of them a pod on each node.
    pub fn start_applications(&self) {
        let namespace =
            |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.cluster.apply(&[namespace(SHOP), namespace(STRANGERS)]);
        for name in [SHOP, STRANGERS] {
            for node in ["node1", "node2"] {
                Pod::start(&self.cluster, name, &format!("on-{node}"), node);
            }
        }
    }

    /// `catalog` (HTTP with a password), `news` (HTTP without) and `echo` (TCP, port 7000), all for
    /// the namespace `shop`.
    pub fn offer_destinations(&self) {
        let servers = self.servers();
        let installation = self.installation();
        for destination in [
            Destination::http("catalog", &servers.catalog.url()).with_basic(USER, PASSWORD),
            Destination::http("news", &servers.news.url()),
            Destination::tcp("echo", servers.echo.address).port(7000),
        ] {
            installation.offer(&destination, SHOP);
        }
    }

    pub fn shop(&self) -> OnBothNodes<'_> {
        self.pods(SHOP)
    }

    pub fn strangers(&self) -> OnBothNodes<'_> {
        self.pods(STRANGERS)
    }

    fn pods(&self, namespace: &str) -> OnBothNodes<'_> {
        ["node1", "node2"].map(|node| Pod::named(&self.cluster, namespace, &format!("on-{node}")))
    }
}
