//! What is left of an erased customer in the memory of a process, in the file of the embedded log, and in what
//! the service tells: the id, and the pseudonym that the log has instead of it.

use std::fs::File;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use memchr::memmem;
use recommendation_api::HumanDuration;
use recommendation_api::config::{RecommenderConfig, SnapshotsConfig};
use recommendation_api::pipeline::serving::Pseudonymization;
use recommender::service::embedded_state_dir;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{KEY, event, eventually, files_with, token};

const ERASED: &str = "zoe-7f31c09d-the-erased";

/// A process that does not outlive a test that fails.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service in a process of its own: in this one the test itself knows the id.
struct Alone {
    process: Own,
    public: SocketAddr,
    internal: SocketAddr,
    client: Client,
}

fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Alone {
    async fn start(dir: &Path) -> Self {
        let (public, internal) = (free(), free());
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_recommender"))
            .args(["serve", "--embedded"])
            .arg(dir.join("shop.db"))
            .arg("--config")
            .arg(dir.join("config.json"))
            .arg("--secrets-dir")
            .arg(dir)
            .args(["--listen", &public.to_string()])
            .args(["--internal-listen", &internal.to_string()])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self {
            process: Own(process),
            public,
            internal,
            // Each call has a connection of its own: while memory is searched nobody sees that the server closed an idle one.
            client: Client::builder().pool_max_idle_per_host(0).build().unwrap(),
        };
        eventually("the service", async || {
            let ready = service
                .client
                .get(format!("http://{internal}/readyz"))
                .send()
                .await;
            ready.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        service
    }

    async fn call(&self, method: Method, path: &str, user: &str, body: Option<Value>) -> Value {
        let scopes = match user {
            "shop" => &["events:write", "recommendations:read"][..],
            _ => &[],
        };
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.public))
            .bearer_auth(token(user, scopes));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn internal(&self, path: &str) -> String {
        let address = format!("http://{}{path}", self.internal);
        self.client
            .get(address)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    async fn learned(&self, events: u64) {
        eventually("the events", async || {
            let status: Value = serde_json::from_str(&self.internal("/status").await).unwrap();
            status["events"] == events
        })
        .await;
    }

    /// How often a text stands in the memory of the process, freed memory and stacks included.
    fn in_memory(&self, text: &str) -> usize {
        let place = format!("/proc/{}", self.process.0.id());
        let memory = File::open(format!("{place}/mem")).unwrap();
        let maps = File::open(format!("{place}/maps")).unwrap();
        let finder = memmem::Finder::new(text);
        let (mut found, mut read) = (0, 0);
        for line in std::io::BufReader::new(maps).lines() {
            let line = line.unwrap();
            let mut parts = line.split_whitespace();
            let (range, rights) = (parts.next().unwrap(), parts.next().unwrap());
            if !rights.starts_with("rw") || line.ends_with("[vvar]") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
            // In parts that overlap, or a text that lies across two would be missed.
            let mut at = from;
            while at < to {
                let mut bytes = vec![0; usize::try_from((to - at).min(1 << 22)).unwrap()];
                // What was unmapped meanwhile cannot be read.
                let n = memory.read_at(&mut bytes, at).unwrap_or(0);
                found += finder.find_iter(&bytes[..n]).count();
                read += n;
                if n < bytes.len() || at + n as u64 == to {
                    break;
                }
                at += (n - text.len() + 1) as u64;
            }
        }
        assert!(read > 1 << 20, "only {read} bytes of memory could be read");
        found
    }

    async fn stop(mut self) {
        let id = self.process.0.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || self.process.0.wait().unwrap());
        assert!(ended.await.unwrap().success());
    }
}

/// How often a text stands in the files of the log, and how often in the events that it has to keep.
fn in_log(dir: &Path, text: &str) -> (usize, usize) {
    let finder = memmem::Finder::new(text);
    let count = |bytes: &[u8]| finder.find_iter(bytes).count();
    let database = rusqlite::Connection::open(dir.join("shop.db")).unwrap();
    let mut rows = database.prepare("SELECT value FROM events").unwrap();
    let values = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let kept = values.map(|value| count(&value.unwrap())).sum();
    let files = ["shop.db", "shop.db-wal"].map(|name| std::fs::read(dir.join(name)).unwrap_or_default());
    (files.iter().map(|bytes| count(bytes)).sum(), kept)
}

fn configured(dir: &Path, interval_seconds: u64) {
    let mut config = RecommenderConfig::default();
    config.privacy.pseudonymization = Pseudonymization::PerCustomerSalt;
    config.privacy.key_file = Some("privacy".into());
    config.auth.jwt_secret_file = Some("jwt".into());
    let state = embedded_state_dir(&dir.join("shop.db"));
    config.snapshots = Some(SnapshotsConfig {
        url: url::Url::from_file_path(state).unwrap().to_string(),
        interval: HumanDuration::from_secs(interval_seconds),
        ..SnapshotsConfig::default()
    });
    std::fs::write(dir.join("jwt"), KEY).unwrap();
    std::fs::write(dir.join("privacy"), "the key of erasures").unwrap();
    std::fs::write(dir.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
}

/// The only pseudonym that was drawn so far.
fn pseudonym(dir: &Path) -> String {
    let database = rusqlite::Connection::open(dir.join("shop.db")).unwrap();
    let salt: Vec<u8> = database
        .query_row("SELECT value FROM salts", [], |row| row.get(0))
        .unwrap();
    let salt: Value = serde_json::from_slice(&salt).unwrap();
    salt["pseudonym"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn neither_id_nor_pseudonym_of_an_erased_customer_is_in_the_memory_of_a_restarted_process() {
    // No service runs in this process, which would have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    configured(dir, 1);
    let state = embedded_state_dir(&dir.join("shop.db"));
    let service = Alone::start(dir).await;
    let send = async |service: &Alone, events: Vec<Value>| {
        let batch = Some(json!(events));
        service
            .call(Method::POST, "/v1/events/batch", "shop", batch)
            .await;
    };
    let bought = ["cup", "lamp"].map(|product| event(ERASED, product, "purchase"));
    send(&service, bought.to_vec()).await;
    let pseudonym = pseudonym(dir);
    let path = format!("/v1/customers/{ERASED}");
    let profile = json!({"email": "zoe@example.com", "attributes": {"skin": "dry"}});
    let put = format!("{path}/profile");
    service.call(Method::PUT, &put, ERASED, Some(profile)).await;
    service.learned(2).await;
    // Others come after, so that a page of the log is about them alone.
    let others = |n: usize| event(&format!("other-{}", n % 40), &format!("p{}", n % 7), "view");
    send(&service, (0..500).map(others).collect()).await;
    service.learned(502).await;
    let shown = format!("/v1/recommendations/{ERASED}?placement=home");
    eventually("an answer that shows something", async || {
        let answer = service.call(Method::GET, &shown, ERASED, None).await;
        answer["items"][0].is_object()
    })
    .await;
    eventually("a snapshot and an impression", async || {
        let (all, kept) = in_log(dir, &pseudonym);
        !files_with(&state, &pseudonym).is_empty() && all > kept + 2
    })
    .await;
    eventually("what was shown in the export", async || {
        let export = service.call(Method::GET, &path, ERASED, None).await;
        export["shown"][0]["placement"] == "home"
    })
    .await;
    assert!(
        service.in_memory(ERASED) > 0 && service.in_memory(&pseudonym) > 0,
        "the search finds what is there"
    );

    service.call(Method::DELETE, &path, ERASED, None).await;
    eventually("snapshots without them", async || {
        files_with(&state, &pseudonym).is_empty()
    })
    .await;
    let nothing_told = async |service: &Alone| {
        for page in ["/metrics", "/status"] {
            let text = service.internal(page).await;
            assert!(!text.contains(ERASED) && !text.contains(&pseudonym), "{page}");
        }
        for text in [ERASED, &pseudonym] {
            assert_eq!(files_with(&state, text), Vec::<String>::new());
        }
    };
    nothing_told(&service).await;
    // Memory that was freed is not written over: this is what a core dump would hold until it is used again.
    println!(
        "the process that erased: the id {} times, the pseudonym {} times in freed memory and buffers",
        service.in_memory(ERASED),
        service.in_memory(&pseudonym)
    );
    service.stop().await;
    assert_eq!(in_log(dir, ERASED), (0, 0), "the log never knew the id");
    assert_eq!(in_log(dir, "zoe@example.com"), (0, 0));
    let (all, kept) = in_log(dir, &pseudonym);
    assert_eq!(
        (all, kept),
        (2, 2),
        "the events that the answer declared, and nothing else"
    );

    // No snapshot is written while it is looked at: what trims the log after one reads all of it.
    configured(dir, 3_600);
    let service = Alone::start(dir).await;
    let found = [ERASED, &pseudonym].map(|text| service.in_memory(text));
    assert_eq!(found[0], 0, "the id after a restart from a snapshot");
    // SQLite may have read the page of the two events that the answer declared: under a pseudonym that is nobody's.
    assert!(
        found[1] <= kept,
        "the pseudonym {} times after a restart from a snapshot",
        found[1]
    );
    nothing_told(&service).await;
    service.stop().await;

    // From the log: the records pass through its buffers, under a pseudonym that is nobody's any more.
    std::fs::remove_dir_all(&state).unwrap();
    configured(dir, 1);
    let service = Alone::start(dir).await;
    assert_eq!(service.in_memory(ERASED), 0, "after a restart from the log");
    println!(
        "the process that read the log anew: the pseudonym {} times",
        service.in_memory(&pseudonym)
    );
    eventually("a snapshot", async || {
        !files_with(&state, "other-1").is_empty() || !files_with(&state, "pseudonym:").is_empty()
    })
    .await;
    nothing_told(&service).await;
    service.stop().await;
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("erasures applied"), "{log}");
    assert!(!log.contains(ERASED) && !log.contains(&pseudonym), "{log}");
}
