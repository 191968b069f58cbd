//! One archive in the two layouts that there are: the OCI image layout, which `ctr images
//! import` and most others read, and `manifest.json`, which `docker load` has always read.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::layer::Layer;

const EPOCH: &str = "1970-01-01T00:00:00Z";

pub(crate) struct Image {
    /// `name:tag`, with a registry or without.
    pub(crate) name: String,
    pub(crate) layer: Layer,
    /// `Entrypoint`, `User`, `Env` and so on, as the specification of the configuration has them.
    pub(crate) settings: Value,
    pub(crate) compressed: bool,
}

/// `sha256:…` and a length.
struct Blob {
    digest: String,
    size: u64,
}

impl Image {
    pub(crate) fn write(&self, into: &Path) -> Result<()> {
        let folder = into.parent().context("the archive is in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("{} can be made", folder.display()))?;
        // Complete or not there at all.
        let mut work = tempfile::NamedTempFile::new_in(folder).context("a file can be made")?;
        let mut packed = tempfile::tempfile_in(folder).context("a file can be made")?;
        let (contents, layer) = self.pack(&mut packed)?;
        self.archive(work.as_file_mut(), packed, &contents, &layer)?;
        fs::set_permissions(work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .context("the archive can be readable")?;
        work.persist(into)
            .with_context(|| format!("{} can be written", into.display()))?;
        Ok(())
    }

    /// Writes the layer; gives the digest of its contents, and what it became.
    fn pack(&self, into: &mut File) -> Result<(String, Blob)> {
        let mut blob = Hashing::new(&mut *into);
        let contents = if self.compressed {
            // No name and no time in it.
            let gzip = GzBuilder::new().write(&mut blob, Compression::best());
            let mut contents = Hashing::new(gzip);
            self.layer.write(&mut contents)?;
            contents
                .inner
                .try_finish()
                .context("the layer can be compressed")?;
            contents.blob().digest
        } else {
            let mut contents = Hashing::new(&mut blob);
            self.layer.write(&mut contents)?;
            contents.blob().digest
        };
        Ok((contents, blob.blob()))
    }

    fn archive(&self, into: &mut File, mut packed: File, contents: &str, layer: &Blob) -> Result<()> {
        use std::io::Seek as _;
        let config = self.config(contents).to_string();
        let manifest = self.manifest(&Blob::of(&config), layer).to_string();
        let index = self.index(&Blob::of(&manifest)).to_string();
        let docker = json!([{
            "Config": Blob::of(&config).path(), "RepoTags": [self.name], "Layers": [layer.path()],
        }])
        .to_string();
        let mut archive = Builder::new(into);
        for folder in ["blobs/", "blobs/sha256/"] {
            append(&mut archive, folder, 0, io::empty())?;
        }
        for text in [&config, &manifest] {
            append(
                &mut archive,
                &Blob::of(text).path(),
                text.len() as u64,
                text.as_bytes(),
            )?;
        }
        packed.rewind().context("the layer can be read")?;
        append(&mut archive, &layer.path(), layer.size, packed)?;
        let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        for (name, text) in [
            ("index.json", &index),
            ("manifest.json", &docker),
            ("oci-layout", &layout),
        ] {
            append(&mut archive, name, text.len() as u64, text.as_bytes())?;
        }
        archive.finish().context("the archive is complete")
    }

    fn config(&self, contents: &str) -> Value {
        json!({
            "created": EPOCH,
            "architecture": architecture(),
            "os": "linux",
            "config": self.settings,
            "rootfs": { "type": "layers", "diff_ids": [contents] },
            "history": [{ "created": EPOCH }],
        })
    }

    fn manifest(&self, config: &Blob, layer: &Blob) -> Value {
        let compression = if self.compressed { "+gzip" } else { "" };
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor(&format!("application/vnd.oci.image.layer.v1.tar{compression}"))],
        });
        // Some tools look there, some at the labels.
        if let Some(labels) = self.settings.get("Labels") {
            manifest["annotations"] = labels.clone();
        }
        manifest
    }

    fn index(&self, manifest: &Blob) -> Value {
        let mut descriptor = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        descriptor["annotations"] = json!({
            "io.containerd.image.name": full_name(&self.name),
            "org.opencontainers.image.ref.name": tag(&self.name),
        });
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor],
        })
    }
}

impl Blob {
    fn of(text: &str) -> Self {
        let mut hashing = Hashing::new(io::sink());
        hashing
            .write_all(text.as_bytes())
            .expect("nothing is written anywhere");
        hashing.blob()
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn blob(self) -> Blob {
        let digest = self.hash.finalize();
        let digest = digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
            use std::fmt::Write as _;
            write!(text, "{byte:02x}").expect("a string takes everything");
            text
        });
        Blob {
            digest,
            size: self.size,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn append(archive: &mut Builder<impl Write>, name: &str, size: u64, content: impl io::Read) -> Result<()> {
    let mut header = Header::new_ustar();
    let folder = name.ends_with('/');
    header.set_entry_type(if folder {
        EntryType::Directory
    } else {
        EntryType::Regular
    });
    header.set_mode(if folder { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    archive
        .append_data(&mut header, name, content)
        .with_context(|| format!("{name} can be packed"))
}

/// As Go calls it, and nodes of Kubernetes in their label.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// With what `docker` would add to a short one; kubelets look for that.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((registry, _)) if registry.contains(['.', ':']) || registry == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Behind the colon that is not a port's.
fn tag(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_as_docker_does() {
        assert_eq!(full_name("proxy:1"), "docker.io/library/proxy:1");
        assert_eq!(full_name("sap/proxy:1"), "docker.io/sap/proxy:1");
        for name in ["ghcr.io/sap/proxy:1", "localhost/proxy:1", "host:5000/proxy:1"] {
            assert_eq!(full_name(name), name);
        }
    }

    #[test]
    fn the_tag_is_not_the_port_of_the_registry() {
        assert_eq!(tag("host:5000/proxy"), "latest");
        assert_eq!(tag("host:5000/proxy:1.2"), "1.2");
    }

    #[test]
    fn labels_are_annotations_too() {
        let labels = json!({ "org.opencontainers.image.version": "1" });
        let image = Image {
            name: "greeting:1".to_owned(),
            layer: Layer::new(),
            settings: json!({ "Labels": labels }),
            compressed: false,
        };
        let blob = Blob::of("");
        assert_eq!(image.manifest(&blob, &blob)["annotations"], labels);
        assert_eq!(image.config("sha256:0")["config"]["Labels"], labels);
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let mut layer = Layer::new();
            layer.text("/greeting", "hello");
            let image = Image {
                name: "greeting:1".to_owned(),
                layer,
                settings: json!({ "User": "65532" }),
                compressed: true,
            };
            let path = folder.path().join(name);
            image.write(&path).unwrap();
            fs::read(path).unwrap()
        };
        assert_eq!(write("one"), write("other"));
    }
}
