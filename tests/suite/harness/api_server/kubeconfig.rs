//! How to reach an API server, as clients read it.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig as File};
use serde_json::json;

/// A file with one cluster and one user.
pub struct Kubeconfig {
    path: PathBuf,
    server: String,
    authority: Option<PathBuf>,
    pub token: String,
}

impl Kubeconfig {
    pub fn write(path: PathBuf, server: String, authority: Option<PathBuf>, token: String) -> Self {
        let kubeconfig = Self {
            path,
            server,
            authority,
            token,
        };
        std::fs::write(&kubeconfig.path, kubeconfig.text()).expect("the kubeconfig is written");
        kubeconfig
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub async fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config().await).expect("a client")
    }

    /// Nothing of the environment goes into it.
    pub async fn config(&self) -> kube::Config {
        let file = File::from_yaml(&self.text()).expect("it was written here");
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .expect("it is complete")
    }

    /// JSON is YAML.
    fn text(&self) -> String {
        let mut cluster = json!({ "server": self.server });
        if let Some(file) = &self.authority {
            cluster["certificate-authority"] = file.display().to_string().into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "admin", "user": { "token": self.token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "admin" } }],
            "current-context": "test",
        })
        .to_string()
    }
}
