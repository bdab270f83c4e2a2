//! A folder, and S3 as the crate `s3s-fs` serves it.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;

use super::*;

/// An S3 server over a folder, for as long as the test's runtime lives.
pub(crate) struct S3 {
    pub config: SnapshotsConfig,
    pub secrets: TempDir,
    _files: TempDir,
}

impl S3 {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (files, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(files.path().join("models")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(files.path()).unwrap());
        service.set_auth(SimpleAuth::from_single("shop", "hunter2"));
        let service = service.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let dir = secrets.path().join("store");
        std::fs::create_dir(&dir).unwrap();
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "shop\n"),
            ("aws_secret_access_key", "hunter2"),
            ("AWS_ENDPOINT", &format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "eu-central-1"),
            ("notes.txt", "nothing that the store knows"),
        ] {
            std::fs::write(dir.join(name), value).unwrap();
        }
        let config = SnapshotsConfig {
            url: "s3://models/shop".into(),
            credentials_dir: Some("store".into()),
            ..SnapshotsConfig::default()
        };
        Self {
            config,
            secrets,
            _files: files,
        }
    }

    pub fn store(&self) -> Store {
        Store::open(&self.config, self.secrets.path()).unwrap()
    }
}

async fn behaves(store: &Store) {
    assert!(store.list("things").await.unwrap().is_empty());
    assert!(store.get("things/a").await.unwrap().is_none());
    assert!(store.create("things/b", "first").await.unwrap());
    assert!(!store.create("things/b", "second").await.unwrap());
    store.put("things/a", "one").await.unwrap();
    store.put("things/a", "two").await.unwrap();
    store.put("things/below/c", "three").await.unwrap();
    let names: Vec<String> = store
        .list("things")
        .await
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(store.get("things/a").await.unwrap().unwrap(), "two");
    assert_eq!(store.get("things/b").await.unwrap().unwrap(), "first");
    assert_eq!(store.range("things/b", 1..3).await.unwrap(), "ir");
    store.remove("things/a").await.unwrap();
    store.remove("things/a").await.unwrap();
    assert!(store.get("things/a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_folder_behaves_as_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let url = Url::from_file_path(dir.path().join("new")).unwrap().to_string();
    let config = SnapshotsConfig {
        url,
        ..SnapshotsConfig::default()
    };
    behaves(&Store::open(&config, dir.path()).unwrap()).await;
}

#[tokio::test]
async fn s3_behaves_as_a_store_with_credentials_from_files() {
    let s3 = S3::start().await;
    behaves(&s3.store()).await;
    std::fs::write(s3.secrets.path().join("store/aws_secret_access_key"), "wrong").unwrap();
    let refused = s3.store().list("things").await.unwrap_err().to_string();
    assert!(
        !refused.contains("hunter2") && refused.contains("things"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_users_model_is_found_by_its_address_and_nothing_is_made_for_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my model.onnx");
    let at = |path: &FilePath| OnnxConfig {
        url: Url::from_file_path(path).unwrap().to_string(),
        credentials_dir: None,
    };
    let (store, name) = Store::of_model(&at(&path), dir.path()).unwrap();
    assert!(store.head(&name).await.unwrap().is_none());
    std::fs::write(&path, "bytes").unwrap();
    assert_eq!(store.head(&name).await.unwrap().unwrap().size, 5);
    assert_eq!(store.get(&name).await.unwrap().unwrap(), "bytes");
    let nowhere = dir.path().join("nowhere/model.onnx");
    assert!(Store::of_model(&at(&nowhere), dir.path()).is_err());
    assert!(!dir.path().join("nowhere").exists());
    let wrong = OnnxConfig {
        url: "models".into(),
        credentials_dir: None,
    };
    let Err(error) = Store::of_model(&wrong, dir.path()) else {
        panic!("it is no address")
    };
    assert!(error.to_string().contains("model.onnx.url"), "{error}");

    let s3 = S3::start().await;
    s3.store().put("models/a.onnx", "bytes").await.unwrap();
    let config = OnnxConfig {
        url: format!("{}/models/a.onnx", s3.config.url),
        credentials_dir: s3.config.credentials_dir.clone(),
    };
    let (store, name) = Store::of_model(&config, s3.secrets.path()).unwrap();
    assert_eq!(store.head(&name).await.unwrap().unwrap().size, 5);
    assert_eq!(store.get(&name).await.unwrap().unwrap(), "bytes");
}

#[test]
fn an_address_that_is_no_store_is_refused_by_name() {
    for url in ["", "models", "ftp://x/y", "http://x/y"] {
        let config = SnapshotsConfig {
            url: url.into(),
            ..SnapshotsConfig::default()
        };
        let Err(error) = Store::open(&config, FilePath::new("/")) else {
            panic!("{url} was accepted")
        };
        assert!(error.to_string().contains("snapshots.url"), "{error}");
    }
}
