//! A replica dies while it erases a customer: whoever is asked once more finishes what it began.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use recommendation_api::pipeline::serving::Pseudonymization;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::replica::Replica;
use crate::shop::Shop;
use crate::support::{eventually, token};

/// Visits that were folded into each customer: as many profiles and salts to be taken out beside their own.
const VISITS: usize = 10;
/// A replica dies as soon as so many records are gone: while salts go, when all but their own have, while profiles go.
const GONE: [usize; 5] = [1, VISITS, VISITS + 1, VISITS + 2, VISITS + 5];

/// Records that stand in a compacted topic, by key.
async fn standing(shop: &Shop, topic: &str) -> usize {
    let records: HashMap<_, _> = shop.records(topic).await.into_iter().collect();
    records.values().filter(|value| value.is_some()).count()
}

/// Profiles and salts that stand in the log.
async fn left(shop: &Shop) -> usize {
    standing(shop, &shop.config.topics.profiles).await + standing(shop, &shop.config.topics.salts).await
}

/// Asks a replica as a shop's backend that may do all of this.
async fn ask(
    client: &Client,
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &Value,
) -> reqwest::Result<(StatusCode, Value)> {
    let token = token("shop", &["events:write", "customers:admin"]);
    let request = client
        .request(method, format!("http://{address}{path}"))
        .bearer_auth(token);
    let answer = request.json(body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

/// A customer with a profile and a few visits, whom all replicas know.
async fn comes(client: &Client, replicas: &[SocketAddr], customer: &str) {
    let mut told = Vec::new();
    for n in 0..VISITS {
        let visit = format!("{customer}-visit-{n}");
        told.push((
            Method::PUT,
            format!("{visit}/profile"),
            json!({"attributes": {"skin": "dry"}}),
        ));
        told.push((
            Method::POST,
            format!("{customer}/aliases"),
            json!({"alias": visit}),
        ));
    }
    told.push((
        Method::PUT,
        format!("{customer}/profile"),
        json!({"email": "zoe@example.com"}),
    ));
    for (method, path, body) in told {
        let path = format!("/v1/customers/{path}");
        let (status, answer) = ask(client, replicas[0], method, &path, &body).await.unwrap();
        assert_eq!(status, StatusCode::ACCEPTED, "{path}: {answer}");
    }
    for &replica in replicas {
        eventually("the customer", async || {
            let path = format!("/v1/customers/{customer}");
            let Ok((_, known)) = ask(client, replica, Method::GET, &path, &Value::Null).await else {
                return false;
            };
            let aliases = known["aliases"].as_array().map_or(0, Vec::len);
            (aliases, &known["profile"]["email"]) == (VISITS, &json!("zoe@example.com"))
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_replica_that_dies_has_not_erased_another_does_when_asked_once_more() {
    let mut shop = Shop::new(2).await;
    shop.config.privacy.pseudonymization = Pseudonymization::PerCustomerSalt;
    // Once in a process is enough; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let steady = Replica::start(&shop, &client).await;
    let mut remains = Vec::new();
    for gone in GONE {
        let mortal = Replica::start(&shop, &client).await;
        let customer = format!("zoe-{gone}");
        comes(&client, &[mortal.public, steady.public], &customer).await;
        let whole = left(&shop).await;
        assert_eq!(whole, 2 * (1 + VISITS), "a profile and a salt of each");

        let (address, path) = (mortal.public, format!("/v1/customers/{customer}"));
        let (profiles, salts) = (&shop.config.topics.profiles, &shop.config.topics.salts);
        let moment = shop.tombstones(&[profiles, salts], gone).await;
        let erasing = ask(&client, address, Method::DELETE, &path, &Value::Null);
        let dies = async {
            let told = moment.await;
            mortal.kill();
            told
        };
        let (answer, told) = tokio::join!(erasing, dies);
        let remained = left(&shop).await;
        let answered = answer.ok().map(|(status, _)| status);
        println!("killed when {gone} records were gone: {remained} of {whole} remained, answer {answered:?}");
        assert!(told.is_ok(), "fewer than {gone} were gone in time");
        assert!(
            answered != Some(StatusCode::ACCEPTED) || remained == 0,
            "what is answered is done"
        );
        remains.push(remained);

        let again = ask(&client, steady.public, Method::DELETE, &path, &Value::Null).await;
        let (status, told) = again.unwrap();
        assert_eq!(status, StatusCode::ACCEPTED, "{told}");
        assert_eq!(left(&shop).await, 0, "{remained} had remained");
    }
    // With every profile in place, and while profiles went; one that died while salts went may have been a moment late.
    let between = remains.contains(&(2 + VISITS));
    let while_profiles = remains.iter().any(|left| (2..2 + VISITS).contains(left));
    assert!(between && while_profiles, "{remains:?}");
}
