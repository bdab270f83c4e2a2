//! A rolling restart under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::RwLock;

use crate::shop::Shop;
use crate::support::{Running, event, eventually, token};

/// What a Service does: addresses of the replicas that are ready.
type Endpoints = Arc<RwLock<Vec<std::net::SocketAddr>>>;

#[tokio::test]
async fn a_rolling_restart_fails_no_request_and_loses_no_event() {
    let shop = Shop::new(3).await;
    let start = async || {
        let mut options = shop.replica();
        options.drain = Duration::from_millis(500);
        Running::start(options).await.ready().await
    };
    let mut replicas = vec![start().await, start().await];
    let endpoints: Endpoints = Arc::new(RwLock::new(replicas.iter().map(|r| r.public).collect()));
    let done = Arc::new(AtomicUsize::new(0));
    let sent = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let (endpoints, done, sent) = (Arc::clone(&endpoints), Arc::clone(&done), Arc::clone(&sent));
            let client = replicas[0].client.clone();
            tokio::spawn(async move {
                let writer = token("shop", &["events:write"]);
                for i in 0.. {
                    if done.load(Ordering::Relaxed) > 0 {
                        break;
                    }
                    let to = {
                        let list = endpoints.read().await;
                        list[i % list.len()]
                    };
                    let body = event(&format!("c{n}"), &format!("p{}", i % 20), "view");
                    let request = client
                        .post(format!("http://{to}/v1/events"))
                        .bearer_auth(&writer)
                        .json(&body);
                    let response = request.send().await.expect("no request fails");
                    assert_eq!(response.status(), 202);
                    sent.fetch_add(1, Ordering::Relaxed);
                    let trending = client
                        .get(format!("http://{to}/v1/trending"))
                        .send()
                        .await
                        .expect("no request fails");
                    assert_eq!(trending.status(), 200);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for _ in 0..2 {
        replicas.push(start().await);
        let old = replicas.remove(0);
        endpoints.write().await.push(replicas.last().unwrap().public);
        // As in Kubernetes: told to end, and only some time later out of the load balancer.
        old.end();
        tokio::time::sleep(Duration::from_millis(250)).await;
        endpoints.write().await.retain(|address| *address != old.public);
        old.stop().await;
    }
    done.store(1, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let sent = sent.load(Ordering::Relaxed) as u64;
    assert!(sent > 20, "{sent}");
    for replica in &replicas {
        replica.learned(sent).await;
    }
    eventually("no lag", || async {
        replicas[0].status().await["lagRecords"] == 0
    })
    .await;
    for replica in replicas {
        replica.stop().await;
    }
}
